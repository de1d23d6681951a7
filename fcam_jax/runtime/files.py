"""Files: those of users, opened and walked so that none can hang the program or fill its memory; records of a run that
a crash leaves whole; checksums; copies that take no room.
"""

import collections
import csv
import hashlib
import io
import json
import os
import pathlib
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fcam_jax.errors import InputError
from fcam_jax.runtime.text import cell

Path = str | os.PathLike[str]

# The largest files that are read, by what they hold, in bytes.
IMAGE = MAP = 512 << 20
TABLE = 2 << 30
RECORD = 256 << 20
WEIGHTS = 64 << 30
ARCHIVE = 1 << 40

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
_KINDS |= dict.fromkeys((stat.S_IFCHR, stat.S_IFBLK), "a device")


def open_regular(path: Path, limit: int) -> io.BufferedReader:
    """Open a file of the user's for reading: a regular one, or a link to one, of at most `limit` bytes.

    Nothing is waited for. Raises OSError: it is not there, something else than a file, or larger; see `reason`.
    """
    try:
        _must_be_regular(pathlib.Path(path).stat().st_mode)  # to open some devices is to act on them
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # such as a NUL in the path
        raise OSError(str(error)) from error
    try:
        found = os.fstat(descriptor)
        _must_be_regular(found.st_mode)
        if found.st_size > limit:
            raise _too_large(limit)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_text(
    path: Path, limit: int = TABLE, *, newline: str | None = None, errors: str = "strict"
) -> io.TextIOWrapper:
    """`open_regular` of a text in UTF-8."""
    return io.TextIOWrapper(open_regular(path, limit), encoding="utf-8-sig", newline=newline, errors=errors)


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a file of the user's. Raises InputError: it cannot be read, as in `open_regular`."""
    try:
        with open_regular(path, limit) as file:
            data = file.read(limit + 1) or b""  # what the kernel makes up has no size before it is read
        if len(data) > limit:
            raise _too_large(limit)
        return data
    except OSError as error:
        raise InputError(f"{os.fspath(path)}: cannot be read: {reason(error)}") from error


def read_text(path: Path, limit: int = TABLE) -> str:
    """The content of a text in UTF-8.

    Raises InputError: it cannot be read, as in `open_regular`, or is no such text.
    """
    try:
        return read_regular(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{os.fspath(path)}: is not a text in UTF-8 (byte {error.start})") from error


def reason(error: OSError) -> str:
    """Why a file cannot be read, without its path."""
    return error.strerror or str(error)


def walk(
    folder: Path, *, hidden: bool = False, besides: Collection[tuple[int, int]] = ()
) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it, each with the sorted names of what else lies in it, `hidden` ones only if asked for.

    Links to folders are followed, after all folders that are none, but for those in `besides` (device and number). Each
    folder is met once, so that links may form loops. Raises InputError: a folder cannot be read.
    """
    waiting, linked = [os.fspath(folder)], collections.deque[str]()
    visited: set[tuple[int, int]] = set()
    while waiting or linked:
        here = waiting.pop() if waiting else linked.popleft()
        names: list[str] = []
        folders: list[str] = []
        links: list[str] = []
        try:
            status = pathlib.Path(here).stat()
            one = (status.st_dev, status.st_ino)
            if one in visited or (visited and one in besides):
                continue
            visited.add(one)
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.name.startswith(".") and not hidden:
                        continue
                    if not _is_folder(entry):
                        names.append(entry.name)
                    else:
                        (links if entry.is_symlink() else folders).append(entry.path)
        except OSError as error:
            raise InputError(f"{here}: cannot be read: {reason(error)}") from error
        waiting += sorted(folders, reverse=True)
        linked += sorted(links)
        yield here, sorted(names)


def fresh_partial(path: pathlib.Path) -> pathlib.Path:
    """What a file is called while it is written; whatever has that name goes, for a link would be followed."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    return partial


def replace_file(path: pathlib.Path, data: str | bytes, *, sync: bool = True) -> None:
    """Put a file in place as a whole: a crash leaves the old one or the new one. Its folder is made where it is not.

    A text is written in UTF-8. `sync` waits until the disk has it, so that this holds when the machine stops, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = fresh_partial(path)
    with partial.open("wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    partial.replace(path)


def write_table(path: pathlib.Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Put a CSV file with some columns in place as a whole, its rows one at a time; see `cell`."""
    partial = fresh_partial(path)
    # Names of files may hold bytes that are no letters; they come out as they were.
    with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    partial.replace(path)


def write_record(path: pathlib.Path, record: Any) -> None:
    """Put JSON data in place as a whole, laid out for people."""
    replace_file(path, json.dumps(record, indent=2) + "\n")


def file_digest(path: pathlib.Path) -> str:
    """SHA-256 of a file's contents, 64 hexadecimal digits."""
    with open_regular(path, WEIGHTS) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file another name, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _must_be_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")


def _too_large(limit: int) -> OSError:
    return OSError(f"it is larger than the {limit >> 20:,} MiB that a file of its kind may have")


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere; told by whoever opens it
        return False
