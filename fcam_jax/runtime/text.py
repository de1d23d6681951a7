"""Names of images, classes and methods, which may hold anything, made fit for messages, figures, files and tables."""

import urllib.parse
from collections.abc import Sequence


def printable(text: str) -> str:
    """The text with control characters and broken letters written as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def listed(names: Sequence[str], shown: int = 10) -> str:
    """The first few names and the number of the others, for a message."""
    others = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + others


def shorten(text: str, letters: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= letters else text[: letters - 3] + "..."


def file_name(name: str) -> str:
    """The name with all letters but plain ones written as escapes, so that it is one part of a path."""
    return urllib.parse.quote(name.encode("utf-8", "surrogatepass"), safe=" (),").replace(".", "%2E")


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
