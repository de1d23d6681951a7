"""A data set whose classes are folders of images, ``class/1.jpg``, below a folder for each split or all for training.

In: the folder. Out: `Metadata` with labels by the sorted names of the classes, and neither boxes nor masks.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from fcam_jax.data.layouts.labels import settle_names
from fcam_jax.data.layouts.metadata import Metadata
from fcam_jax.data.layouts.paths import SPLITS, refused
from fcam_jax.data.layouts.problems import Problems, listed
from fcam_jax.errors import InputError

# By these a folder's images are told from its other files.
SUFFIXES = tuple(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .avif .jp2 .ppm .pgm .pbm .pnm .tga".split()  # noqa: SIM905
)


def splits(root: pathlib.Path) -> tuple[str, ...]:
    """The splits that a folder has in this layout."""
    return tuple(split_folders(root))


def split_folders(root: pathlib.Path) -> dict[str, str]:
    """The splits that a folder has, each with its folder; that is ``""`` where all folders are classes for training."""
    named = {split: name for split, names in SPLITS.items() for name in names if _classes(root / name)}
    return named or ({"train": ""} if _classes(root) else {})


def read(root: pathlib.Path, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split.

    Args:
      root: the data set's folder; the ids of images start there.
      split: one of `splits`.
      num_classes: number of classes; 0 for the number of folders.
      problems: is told of classes that training lacks, and of files and folders that are left alone.

    Raises:
      InputError: there are more folders than classes, or one cannot be read.
    """
    folders = split_folders(root)
    classes = {name: set(_classes(root / folder)) for name, folder in folders.items()}
    names = sorted(set.union(*classes.values()))
    count, class_names = settle_names(names, num_classes, root, problems)
    if folders[split]:
        _warn_of_others(root, set(folders.values()), problems)
    image_ids: list[str] = []
    labels: list[int] = []
    for name in sorted(classes[split]):
        found, others = _files(root, pathlib.PurePosixPath(folders[split], name).as_posix())
        if others:
            problems.warn(root / folders[split] / name, f"files that are no images by their endings: {listed(others)}")
        if name not in classes.get("train", {name}):
            for image_id in found:
                problems.error(root / image_id, f"the training images have no class {name}", image_id=image_id)
        image_ids += found
        labels += [names.index(name)] * len(found)
    for image_id, reason in refused(image_ids).items():
        problems.error(root / image_id, reason, image_id=image_id)
    return Metadata(image_ids, np.array(labels, np.int32), None, num_classes=count, class_names=class_names)


def _classes(folder: pathlib.Path) -> list[str]:
    """Sub-folders with an image somewhere below them."""
    return [name for name in _subfolders(folder) if next(_walk(folder / name, SUFFIXES), None)]


def _subfolders(folder: pathlib.Path) -> list[str]:
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        _unreadable(error)


def _files(root: pathlib.Path, folder: str) -> tuple[list[str], list[str]]:
    """Paths below the root of a folder's images, and of its other files."""
    files = [f"{folder}/{name}" for name in _walk(root / folder)]
    images = [name for name in files if name.lower().endswith(SUFFIXES)]
    return images, [name for name in files if not name.lower().endswith(SUFFIXES)]


def _walk(folder: pathlib.Path, endings: tuple[str, ...] = ("",)) -> Iterator[str]:
    """Paths below a folder of its files, in order; hidden ones are none of the user's."""
    for here, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = here[len(str(folder)) + 1 :].replace(os.sep, "/")
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(endings):
                yield f"{below}/{name}" if below else name


def _warn_of_others(root: pathlib.Path, used: set[str], problems: Problems) -> None:
    others = [name for name in _subfolders(root) if name not in used]
    if others:
        problems.warn(root, f"folders beside those of the splits are left alone: {listed(others)}")


def _unreadable(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename}: cannot be read: {error.strerror or error}") from error
