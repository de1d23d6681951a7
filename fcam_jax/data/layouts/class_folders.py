"""A data set whose classes are folders of images, ``class/1.jpg``, below a folder for each split or all for training.

In: the folder. Out: `Metadata` with labels by the sorted names of the classes, and neither boxes nor masks.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from fcam_jax.data.layouts.metadata import Layout, Metadata, Place, settle_names
from fcam_jax.data.layouts.paths import SPLIT_NAMES, refused
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import walk
from fcam_jax.runtime.text import listed

# By these a folder's images are told from its other files.
SUFFIXES = tuple(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .avif .jp2 .ppm .pgm .pbm .pnm .tga".split()  # noqa: SIM905
)


def split_folders(root: pathlib.Path) -> dict[str, str]:
    """The splits that a folder has, each with its folder; that is ``""`` where all folders are classes for training."""
    named = {split: name for split, names in SPLIT_NAMES.items() for name in names if _classes(root / name)}
    return named or ({"train": ""} if _classes(root) else {})


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split; `problems` is told of classes that training lacks, and of what is left alone.

    Raises:
      InputError: there are more folders than classes, or one cannot be read.
    """
    root = place.images
    folders = split_folders(root)
    place.needs(split, folders)
    classes = {name: set(_classes(root / folder)) for name, folder in folders.items()}
    names = sorted(set.union(*classes.values()))
    count, class_names = settle_names(names, num_classes, root, problems)
    others = [name for name in _subfolders(root) if name not in folders.values()]
    if folders[split] and others:
        problems.warn(root, f"folders beside those of the splits are left alone: {listed(others)}")
    image_ids: list[str] = []
    labels: list[int] = []
    for name in sorted(classes[split]):
        folder = pathlib.PurePosixPath(folders[split], name).as_posix()
        files = [f"{folder}/{file}" for file in _walk(root / folder)]
        found = [file for file in files if file.lower().endswith(SUFFIXES)]
        if len(found) < len(files):
            text = listed([file for file in files if not file.lower().endswith(SUFFIXES)])
            problems.warn(root / folder, f"files that are no images by their endings: {text}")
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


def _walk(folder: pathlib.Path, endings: tuple[str, ...] = ("",)) -> Iterator[str]:
    """Paths below a folder of its files, in order; hidden ones are none of the user's."""
    for here, names in walk(folder):
        below = here[len(str(folder)) + 1 :].replace(os.sep, "/")
        for name in names:
            if name.lower().endswith(endings):
                yield f"{below}/{name}" if below else name


def _unreadable(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename}: cannot be read: {error.strerror or error}") from error


LAYOUT = Layout(
    lambda root: tuple(split_folders(root)),
    read,
    localization=lambda place, split: place.metadata,
    sign="class folders of images",
    last=True,
)
