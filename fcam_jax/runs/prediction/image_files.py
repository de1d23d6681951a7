"""The images that a user means by a file, a folder or a pattern, and the name of each in the output folder.

In: paths and patterns. Out: `ImageFile`s in order, with names that no two of them share.
"""

import collections
import dataclasses
import fnmatch
import glob
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence

from fcam_jax.data.layouts.tree import SUFFIXES
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import walk
from fcam_jax.runtime.text import fitted, listed, printable

_LONGEST = 1000  # letters of a name with its folders, so that the path of an output is none that is too long


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image to be predicted."""

    path: pathlib.Path
    name: str  # relative to the folder that was given, or to the fixed part of the pattern, ``/`` between parts

    @property
    def output(self) -> str:
        """What its outputs are called, without their endings: the name, unless it is too long."""
        parts = "/".join(map(fitted, self.name.split("/")))
        return parts if len(parts) <= _LONGEST else fitted(self.name.replace("/", "_"))


@dataclasses.dataclass(frozen=True)
class Found:
    """What is to be predicted, and what is not."""

    files: list[ImageFile]
    left_out: dict[str, int]  # number of a folder's files by their endings, which are none of `SUFFIXES`


def find_images(given: Sequence[str], outputs: Sequence[pathlib.Path]) -> Found:
    """The images of files, folders (with their sub-folders) and patterns, each once.

    Args:
      given: paths or patterns, in which ``**`` stands for any number of folders.
      outputs: folders that are written to: what lies in them is no input.

    Raises:
      InputError: there is no image, or two images would have one name.
    """
    outside = [f"{os.path.realpath(folder)}{os.sep}" for folder in outputs]
    by_name: dict[str, pathlib.Path] = {}
    left_out: collections.Counter[str] = collections.Counter()
    for text in given:
        root, paths = _candidates(text)
        paths = [path for path in paths if not os.path.realpath(path).startswith(tuple(outside))]
        if pathlib.Path(text).is_dir():
            left_out.update(path.suffix.lower() for path in paths if path.suffix.lower() not in SUFFIXES)
            paths = [path for path in paths if path.suffix.lower() in SUFFIXES]
        for path in paths:
            _add(by_name, path.relative_to(root).as_posix(), path)
        if not paths:
            others = f"; its other files end in {listed(sorted(left_out))}" if left_out else ""
            raise InputError(f"{printable(text)}: no image there ({' '.join(SUFFIXES)}){others}")
    return Found([ImageFile(path, name) for name, path in by_name.items()], dict(left_out))


def _candidates(text: str) -> tuple[pathlib.Path, list[pathlib.Path]]:
    """The folder that names start from, and files in order."""
    path = pathlib.Path(text)
    if path.is_dir():
        return path, sorted(_below(path))
    if os.path.lexists(path):
        return path.parent, [path]
    root = pathlib.Path(*itertools.takewhile(lambda part: not set(part) & set("*?["), path.parts))
    if "**" in path.parts:  # by a walk that meets each folder once: links may form loops
        wanted = path.parts[len(root.parts) :]
        below = _below(root) if root.is_dir() else ()
        found = sorted(file for file in below if _matches(file.relative_to(root).parts, wanted))
    else:
        matches = map(pathlib.Path, glob.glob(text))  # noqa: PTH207 (a Path's takes no absolute one)
        found = sorted(match for match in matches if not match.is_dir())
    if not found:
        raise InputError(f"{printable(text)}: no such file or folder, and nothing matches it as a pattern")
    return root, found


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a path matches a pattern, by their parts."""
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_matches(parts[first:], wanted[1:]) for first in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])


def _below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Files of a folder and its sub-folders; hidden ones are none of the user's."""
    for here, names in walk(folder):
        yield from (pathlib.Path(here, name) for name in names)


def _add(by_name: dict[str, pathlib.Path], name: str, path: pathlib.Path) -> None:
    other = by_name.setdefault(name, path)
    if other != path and os.path.realpath(other) != os.path.realpath(path):
        raise InputError(
            f"{printable(str(other))} and {printable(str(path))} would both be written as "
            f"{printable(name)}; give the folder that holds both"
        )
