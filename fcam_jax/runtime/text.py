"""Names of images, classes and methods, which may hold anything, made fit for messages, figures, files and tables."""

import hashlib
import pathlib
import urllib.parse
from collections.abc import Sequence

from fcam_jax.errors import printable as printable

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what begins one in a spreadsheet, also in letters of full width
_LETTERS = 200  # of a name in a list
_BYTES = 200  # of a file's name; file systems allow 255


def listed(names: Sequence[str], shown: int = 10) -> str:
    """The first few names and the number of the others, for a message."""
    others = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(shorten(name, _LETTERS) for name in names[:shown]) + others


def shorten(text: str, letters: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= letters else text[: letters - 3] + "..."


def file_name(name: str) -> str:
    """The name with all letters but plain ones written as escapes, so that it is one part of a path."""
    return fitted(urllib.parse.quote(name.encode("utf-8", "surrogatepass"), safe=" (),").replace(".", "%2E"))


def fitted(name: str) -> str:
    """A part of a path, with room for an ending; one that is too long is its beginning, a digest, and its suffix."""
    data, suffix = name.encode("utf-8", "surrogatepass"), pathlib.PurePath(name).suffix
    if len(data) <= _BYTES:
        return name
    kept, suffix = data[: _BYTES - 40].decode("utf-8", "ignore"), suffix if len(suffix) < 6 else ""
    return f"{kept}-{hashlib.sha256(data).hexdigest()[:16]}{suffix}"


def cell(value: object) -> object:
    """What is written into a table's cell: a text that a spreadsheet would take for a formula has a ' before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table of texts: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *figures in rows:
        cells = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, at most 300 characters; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
