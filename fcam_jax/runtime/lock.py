"""A folder for one program at a time, on all hosts of a file system: a lock that ends with its process."""

import contextlib
import errno
import fcntl
import io
import logging
import os
import pathlib
import re
import socket
import stat
from collections.abc import Iterator

from fcam_jax.errors import InputError
from fcam_jax.runtime.text import printable

logger = logging.getLogger(__name__)

_WRITTEN = re.compile(r"(process \d+ on \S+)?")
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def held(path: pathlib.Path, complaint: str) -> Iterator[None]:
    """Hold the lock of a file, which stays behind; where the file system has no locks, that is told.

    Raises:
      InputError: another process holds it, and the message is `complaint` and which; or it is anything but a lock.
      OSError: the file cannot be written.
    """
    no_lock = InputError(f"{path} is no lock of this program; delete it, or use another folder")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link
            raise no_lock from error
        raise
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise no_lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{complaint} ({printable(_text(file)) or 'unknown'})") from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            logger.warning("%s: this file system has no locks (%s): start one run at a time", path, error.strerror)
        if not _WRITTEN.fullmatch(_text(file)):  # such as another file under one more name
            raise no_lock
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield


def _text(file: io.FileIO) -> str:
    """What is written in a lock, or the beginning of what is."""
    file.seek(0)
    return file.read(300).decode(errors="replace").strip()
