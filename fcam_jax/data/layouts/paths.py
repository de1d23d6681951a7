"""Names in a data set: of its splits, and of its files, which of them may be opened and which are not there.

All names of files are paths relative to one folder, with ``/`` between their parts.
"""

import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Sequence

from fcam_jax.data.source import SPLITS

# What the folder, file or column of a split may say, in the order of `SPLITS`.
_AROUND = r"(?:annotations?|coco|data(?:set)?|images?|imgs?|instances|labels?|sets?|splits?)"
_SPLIT = re.compile(
    rf"(?:\d+[\W_]+)?(?:{_AROUND}[\W_]*)?(?:(tr(?:ai)?n(?:ing)?)|(val(?:id(?:at(?:e|ion))?)?|dev)|(te?st(?:ing)?|eval(?:uat(?:e|ion))?))"
    rf"(?:[\W_]*{_AROUND})?[\W_]*\d*[\W_]*",
    re.IGNORECASE,
)
_LOOKED_FOR = 50  # images by which a folder is recognised as theirs

# Backslashes and drives lead out on Windows.
_LEADS_OUT = re.compile(r"^[/\\]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.([/\\]|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def split_of(name: str) -> str | None:
    """The split that a name means, such as ``Training``, ``val2017`` or ``test_set``; None where it means none."""
    found = _SPLIT.fullmatch(name.strip())
    return SPLITS[(found.lastindex or 0) - 1] if found else None


def refused(names: Iterable[str]) -> dict[str, str]:
    """The names that may not be opened, each with the reason; links in the folder may lead where they like."""
    # Nearly all names pass these quick tests; the thorough ones take seconds for a million.
    suspects = (n for n in names if not n.isprintable() or n[:1] in ("", "/") or ".." in n or "\\" in n or ":" in n)
    return {name: reason for name in suspects if (reason := _reason(name))}


def absent(folder: pathlib.Path, names: Iterable[str]) -> set[str]:
    """The names that the folder does not have, neither itself nor below it.

    Folders are listed once each: asking for every file takes minutes for a million images on a network disk.
    """
    present: dict[str, set[str]] = {}
    missing = set()
    for name in names:
        parent, _, file = name.rpartition("/")
        if parent not in present:
            present[parent] = listing(folder / parent)
        if file not in present[parent]:
            missing.add(name)
    return missing


def as_stored(folder: pathlib.Path, names: Iterable[str]) -> dict[str, str]:
    """Those of some names that are not there, each with the name that the folder has in another form of Unicode."""
    found = {}
    for name in names:
        parts: list[str] = []
        for part in name.split("/"):
            same = (n for n in sorted(listing(folder.joinpath(*parts))) if _composed(n) == _composed(part))
            if not (stored := next(same, "")):
                break  # before a path of thousands of parts is looked for
            parts.append(stored)
        else:
            found[name] = "/".join(parts)
    return found


def fullest(folder: pathlib.Path, below: Sequence[str], files: Sequence[str]) -> str:
    """The first of some folders below another, ``""`` or ``"."`` for that itself, in which most of the files lie."""

    def held(name: str) -> int:
        return sum(os.path.isfile(folder / name / file) for file in files[:_LOOKED_FOR])  # noqa: PTH113 (a Path's raises)

    best = max(below, key=held)
    return "" if best == "." else best


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def relative(path: str, folder: pathlib.Path) -> str:
    """A path from a folder on: backslashes between its parts, and the folder before it, are those of other programs."""
    if "\\" in path and not os.path.lexists(folder / path):
        path = path.replace("\\", "/")
    above = f"{folder.absolute().as_posix()}/"
    return path.removeprefix(above if path.startswith(above) else "./")


def listing(folder: pathlib.Path) -> set[str]:
    """The names in a folder; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (OSError, ValueError):
        return set()


def _reason(name: str) -> str | None:
    if not name:
        return "empty path"
    if _CONTROL.search(name):
        return "control characters in the path"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "path is not valid Unicode"
    return "path that leads out of the image folder" if _LEADS_OUT.search(name) else None
