"""What ends a run before its end: something that a user is to mend, or a request to stop."""

import contextlib
import errno
from collections.abc import Iterable, Iterator

# What a disk may refuse a write with, so that it is the user who has to mend it.
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)

# Letters of a message.
LONGEST = 600

# Exit status of a run that was asked to stop and goes on when it is started again (EX_TEMPFAIL of sysexits.h).
REQUEUE = 75


class InputError(ValueError):
    """Something the user gave (config key, path, image, label, checkpoint) cannot be used.

    The message is one line: it names the file or key, says what is wrong with it and, where that is not
    obvious, what to do. `fcam_jax.main` prints it without a traceback and exits with status 1. Names and values in it
    may hold anything: what cannot be printed is escaped, and of a long message the middle is left out.
    """

    def __init__(self, message: str):
        line = printable(message)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 205]} ... {line[-200:]}")


def printable(text: str) -> str:
    """The text with control characters and broken letters written as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextlib.contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Within this, libraries are imported that an extra of the package brings (setup.py), which `what` needs.

    Raises InputError: one is not installed; the message has the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"{what} needs {error.name}: pip install 'fcam-jax[{name}]'") from error


def unknown_name(kind: str, name: object, known: Iterable[object]) -> InputError:
    """The error for a name of a kind, e.g. ``"encoder"``, that is none of the known ones; it lists these."""
    return InputError(f"unknown {kind} {name!r:.100}; known: {', '.join(sorted(map(str, known)))}")


class Preempted(SystemExit):
    """The run was asked to stop by SIGTERM or SIGUSR1: it ends with status `REQUEUE`, and a repeated call goes on."""

    def __init__(self) -> None:
        super().__init__(REQUEUE)
