"""A file from the network: put in place as a whole, once its checksum is that which is known; an interrupted download
is gone on with.
"""

import fcntl
import http
import http.client
import io
import logging
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Iterator

from fcam_jax.errors import InputError
from fcam_jax.runtime.files import file_digest
from fcam_jax.runtime.progress import progress_bar
from fcam_jax.runtime.text import first_line

logger = logging.getLogger(__name__)

_SILENT = 30  # seconds without a byte until a connection is given up
_CHUNK = 1 << 20  # bytes
PARTIAL = ".partial"  # after the name of a file that is not whole yet


def fetch(url: str, path: pathlib.Path, digest: str) -> None:
    """Fetch a file to a path, unless it is there; several processes may ask for it at the same time.

    Args:
      url: of the file, http or https.
      path: where it is to be; its folder is made. Until it is whole it lies beside it, as `NAME.partial`.
      digest: the first digits of its SHA-256, hexadecimal.

    Raises:
      InputError: it cannot be had (what has come so far is kept), or its checksum is another (it is discarded).
      OSError: it cannot be written.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}{PARTIAL}")
    with partial.open("ab") as file:
        _wait_for_lock(file)
        if path.exists():  # by another process in the meantime
            return
        _append(url, file, os.fstat(file.fileno()).st_size)
        file.flush()
        found = file_digest(partial)
        if not found.startswith(digest):
            file.truncate(0)
            raise InputError(
                f"{url}: the file's SHA-256 begins with {found[: len(digest)]} and not with {digest}; it is discarded, "
                "and the same call fetches it anew"
            )
        partial.replace(path)


def _wait_for_lock(file: io.BufferedWriter) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        logger.warning("%s: this file system has no locks: fetch a file by one process at a time", file.name)


def _append(url: str, file: io.BufferedWriter, there: int) -> None:
    """Append to a file what it lacks after the bytes that are there."""
    try:
        answer = urllib.request.urlopen(_request(url, there), timeout=_SILENT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and there:  # it is no longer than that
            file.truncate(0)
            return _append(url, file, 0)
        raise InputError(f"{url}: cannot be fetched: {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        cure = f"connect to the network, or put the file at {file.name.removesuffix(PARTIAL)}"
        raise InputError(f"{url}: cannot be fetched: {_why(error)}; {cure}") from error
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:  # all of it
            file.truncate(there := 0)
        size = there + int(answer.headers.get("Content-Length", 0))
        logger.info("fetching %s (%.1f MB)%s", url, size / 1e6, ", the rest of it" if there else "")
        with progress_bar("fetch", size >> 20, "MiB", there >> 20) as bar:
            for chunk in _chunks(answer):
                file.write(chunk)
                there += len(chunk)
                bar.update()
    if there < size:
        told = f"the connection ended after {there:,} of {size:,} bytes"
        raise InputError(f"{url}: {told}; the same call goes on from there")


def _request(url: str, there: int) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})


def _chunks(answer: io.BufferedIOBase) -> Iterator[bytes]:
    """What comes until the connection ends, in whatever way."""
    try:
        while chunk := answer.read(_CHUNK):
            yield chunk
    except http.client.IncompleteRead as error:
        yield error.partial
    except (OSError, http.client.HTTPException):
        return


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return first_line(reason if isinstance(reason, Exception) else error)
