"""Images that a user gives: to a program as paths, PIL images or arrays; to the command as files, folders, patterns."""

import collections
import dataclasses
import fnmatch
import glob
import itertools
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from fcam_jax.data.images import Window, read_image, windowed
from fcam_jax.data.layouts.tree import SUFFIXES
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import walk
from fcam_jax.runtime.text import fitted, listed, printable
from fcam_jax.types import Image

logger = logging.getLogger(__name__)

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


def images_of(given: Any, window: Window = ()) -> list[Image]:
    """One image or several, in any form that `Loaded` takes, as RGB pixels; the window is `decode_image`'s.

    An `InputError` says which cannot be used.
    """
    if not are_several(given):
        return [_image(given, "image", window)]
    if not len(given):
        raise InputError("there is no image")
    return [_image(one, f"image {place}", window) for place, one in enumerate(given)]


def names_of(given: Any) -> list[str]:
    """What such images are called, for people: by their path or place."""
    each = given if are_several(given) else [given]
    return [str(one) if isinstance(one, str | os.PathLike) else f"image {place}" for place, one in enumerate(each)]


def are_several(given: Any) -> bool:
    """Whether these are several images, or one."""
    return isinstance(given, list | tuple) or (hasattr(given, "ndim") and given.ndim == 4)


def find_images(given: Sequence[str], outputs: Sequence[pathlib.Path]) -> Found:
    """The images of files, folders (with their sub-folders) and patterns, each once.

    In a pattern ``**`` stands for any number of folders. What lies in the folders of the outputs is no input.

    Raises:
      InputError: there is no image, or two images would have one name.
    """
    outside = tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in outputs)
    by_name: dict[str, pathlib.Path] = {}
    left_out: collections.Counter[str] = collections.Counter()
    for text in given:
        root, paths = _candidates(text)
        paths = [path for path in paths if not os.path.realpath(path).startswith(outside)]
        if pathlib.Path(text).is_dir():
            left_out.update(path.suffix.lower() for path in paths if path.suffix.lower() not in SUFFIXES)
            paths = [path for path in paths if path.suffix.lower() in SUFFIXES]
        for path in paths:
            name = path.relative_to(root).as_posix()
            other = by_name.setdefault(name, path)
            if other != path and os.path.realpath(other) != os.path.realpath(path):
                both = f"{printable(str(other))} and {printable(str(path))}"
                raise InputError(f"{both} would both be written as {printable(name)}; give the folder that holds both")
        if not paths:
            others = f"; its other files end in {listed(sorted(left_out))}" if left_out else ""
            raise InputError(f"{printable(text)}: no image there ({' '.join(SUFFIXES)}){others}")
    return Found([ImageFile(path, name) for name, path in by_name.items()], dict(left_out))


def _image(given: Any, name: str, window: Window) -> Image:
    if isinstance(given, str | os.PathLike):
        return read_image(pathlib.Path(given), upright=True, window=window)
    if isinstance(given, PIL.Image.Image):
        upright = PIL.ImageOps.exif_transpose(given)
        given = np.asarray(upright if upright.mode.startswith(("I", "F")) else upright.convert("RGB"))
    pixels = np.asarray(given)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise InputError(f"{name} has shape {np.shape(given)}; it must be (height, width, 3) or (height, width)")
    pixels = np.broadcast_to(pixels[..., :3], (*pixels.shape[:2], 3))
    low, high = pixels.min(), pixels.max()
    if window and pixels.dtype != np.uint8:
        pixels = windowed(pixels, window)
    elif np.issubdtype(pixels.dtype, np.floating):
        if not 0 <= low <= high <= 1:
            raise InputError(f"{name} holds floats from {low:g} to {high:g}; floats are in [0, 1], uint8 in [0, 255]")
        pixels = np.rint(255 * pixels)
    elif pixels.dtype == np.uint16:
        if high < 2**14:  # as cameras of 10 to 14 bits give
            logger.warning("%s holds uint16 up to %d, which is nearly black where 65535 is white: scale it", name, high)
        pixels = np.rint(pixels / 257)
    elif not np.issubdtype(pixels.dtype, np.integer) or low < 0 or high > 255:
        raise InputError(f"{name} holds {pixels.dtype} from {low} to {high}; it must hold uint8 in [0, 255]")
    elif high == 1:
        raise InputError(f"{name} holds whole numbers of 0 and 1 alone; multiply them by 255, or give floats")
    return np.ascontiguousarray(pixels, np.uint8)


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
    return (pathlib.Path(here, name) for here, names in walk(folder) for name in names)
