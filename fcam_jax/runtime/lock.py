"""A folder for one program at a time, on all hosts of a file system: a lock that ends with its process."""

import contextlib
import errno
import fcntl
import logging
import os
import pathlib
import socket
from collections.abc import Iterator

from fcam_jax.errors import InputError

logger = logging.getLogger(__name__)

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def held(path: pathlib.Path, complaint: str) -> Iterator[None]:
    """Hold the lock of a file, which stays behind; where the file system has no locks, that is told.

    Args:
      path: the file.
      complaint: what to say where another process holds it.

    Raises:
      InputError: another process holds it; the message says which.
      OSError: the file cannot be written.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(f"{complaint} ({file.read().strip() or 'unknown'})") from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            logger.warning("%s: this file system has no locks (%s): start one run at a time", path, error.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
