"""Names in a data set: of its splits, and of its files, which of them may be opened and which are not there.

All names of files are paths relative to one folder, with ``/`` between their parts.
"""

import os
import pathlib
import re
from collections.abc import Iterable

# What the folder or file of a split may be called.
SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}

# Backslashes and drives lead out on Windows.
_LEADS_OUT = re.compile(r"^[/\\]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.([/\\]|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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
