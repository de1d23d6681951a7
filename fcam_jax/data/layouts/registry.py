"""The layouts that a data set's folder may have: which it has, which splits, and what it says of a split.

Layouts: "wsol", text files of Choe et al. (`metadata.py`); "classes", a folder for each class (`class_folders.py`);
"manifest", a table (`manifest.py`); "coco", COCO's JSON files (`coco.py`).
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable

from fcam_jax.data.layouts import class_folders, coco, manifest
from fcam_jax.data.layouts.coco_file import split_files
from fcam_jax.data.layouts.labels import folder_names
from fcam_jax.data.layouts.metadata import Metadata, count_classes, read_split, report_unlocalized
from fcam_jax.data.layouts.paths import SPLITS
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.errors import InputError, unknown_name


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a data set lies.

    Attributes:
      layout: one of `LAYOUTS`.
      root: its folder.
      images: folder that the paths of images start from.
      metadata: folder that holds what describes the images.
    """

    layout: str
    root: pathlib.Path
    images: pathlib.Path
    metadata: pathlib.Path


def _wsol_splits(metadata: pathlib.Path) -> tuple[str, ...]:
    return tuple(split for split in SPLITS if (metadata / split).is_dir())


# What finds the splits of each layout in the folder of its metadata; none where the folder has another layout.
LAYOUTS: dict[str, Callable[[pathlib.Path], tuple[str, ...]]] = {
    "wsol": _wsol_splits,
    "manifest": manifest.splits,
    "coco": coco.splits,
    "classes": class_folders.splits,
}


def locate(
    root: str | os.PathLike[str],
    layout: str = "",
    images: str | os.PathLike[str] | None = None,
    metadata: str | os.PathLike[str] | None = None,
) -> Place:
    """Find out which layout a folder has.

    Args:
      root: the data set's folder.
      layout: one of `LAYOUTS`; by default the one that the folder has. Classes are looked for last, as every
        layout has folders of images.
      images: folder that the paths of images start from; by default `images` below the root for "wsol", else the root.
      metadata: folder that holds what describes the images; by default `metadata` below the root for "wsol", else the
        root.

    Raises:
      InputError: the folder is not there, or has no layout or several.
    """
    if layout and layout not in LAYOUTS:
        raise unknown_name("data.layout", layout, LAYOUTS)
    if not os.fspath(root):
        raise InputError("data.root is empty; give the folder of the data set: --config.data.root=DIR")
    root = pathlib.Path(root)
    places = {
        name: Place(
            name,
            root,
            pathlib.Path(images) if images else _below(root, "images", name),
            pathlib.Path(metadata) if metadata else _below(root, "metadata", name),
        )
        for name in LAYOUTS
    }
    if not layout:
        layout = _only(root, {name: place.metadata for name, place in places.items()})
    for needed in (root, places[layout].images, places[layout].metadata):
        if not needed.is_dir():
            raise InputError(f"{needed}: no such folder (data.root must hold it)")
    return places[layout]


def splits(root: str | os.PathLike[str], layout: str = "") -> tuple[str, ...]:
    """Which of train, val and test a data set has.

    Raises:
      InputError: as for `locate`, and when it has none.
    """
    place = locate(root, layout)
    found = LAYOUTS[place.layout](place.metadata)
    if not found:
        raise InputError(f"{place.metadata}: no split of layout {place.layout!r} there (see docs/data/own.md)")
    return found


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """What a data set says of a split; files of images and masks are not looked for.

    Args:
      place: see `locate`.
      split: one of `splits`.
      num_classes: labels must be below it; 0 for as many classes as the data set has.
      problems: is told of everything that is wrong with the split.

    Raises:
      InputError: there is no such split, or nothing can be made of what describes it.
    """
    # A manifest is read as a whole to know its splits, and tells itself.
    found = (split,) if place.layout == "manifest" else LAYOUTS[place.layout](place.metadata)
    if split not in found:
        raise InputError(f"{place.metadata}: has no split {split!r}; it has: {', '.join(found) or 'none'}")
    metadata = _read(place, split, num_classes, problems)
    localized = metadata.localized()
    if split != "train" and localized.any() and not localized.all():
        report_unlocalized(metadata, _localization(place, split), problems)
    if metadata.class_names is None and place.layout in ("wsol", "manifest"):
        names = folder_names(metadata.image_ids, metadata.labels, metadata.num_classes)
        metadata = dataclasses.replace(metadata, class_names=names)
    return metadata


def mask_names(metadata: Metadata) -> list[tuple[str, str]]:
    """The id of an image and the path of a mask of it, for all masks that are files."""
    return [
        (image_id, name)
        for image_id, files in zip(metadata.image_ids, metadata.masks or (), strict=metadata.masks is not None)
        for name in (*files.instances, *([files.ignore] if files.ignore else []))
    ]


def _read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    if place.layout == "wsol":
        count = num_classes or count_classes(place.metadata, problems)
        return read_split(place.metadata / split, count, problems)
    if place.layout == "manifest":
        return manifest.read(place.metadata, split, num_classes, problems)
    if place.layout == "coco":
        return coco.read(place.metadata, place.images, split, num_classes, problems)
    return class_folders.read(place.images, split, num_classes, problems)


def _localization(place: Place, split: str) -> pathlib.Path:
    """The file that holds boxes and masks of a split."""
    if place.layout == "coco":
        return split_files(place.metadata)[split]
    name = f"{split}/localization.txt" if place.layout == "wsol" else ""
    return (place.layout == "manifest" and manifest.manifest_file(place.metadata)) or place.metadata / name


def _below(root: pathlib.Path, name: str, layout: str) -> pathlib.Path:
    return root / name if layout == "wsol" else root


def _only(root: pathlib.Path, metadata: dict[str, pathlib.Path]) -> str:
    """The layout that a folder has."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; data.root must be the folder of the data set")
    described = {
        "wsol": bool(_wsol_splits(metadata["wsol"])),
        "manifest": manifest.manifest_file(metadata["manifest"]) is not None,
        "coco": bool(coco.splits(metadata["coco"])),
    }
    found = [name for name, there in described.items() if there]
    if len(found) > 1:
        raise InputError(f"{root}: has the layouts {', '.join(found)}; name one: --config.data.layout={found[0]}")
    if found or class_folders.splits(metadata["classes"]):
        return found[0] if found else "classes"
    raise InputError(
        f"{root}: holds no data set: neither metadata/train/image_ids.txt, nor manifest.csv, nor manifest.jsonl, nor "
        "annotations/instances_train.json, nor class folders of images (docs/data/own.md shows the layouts)"
    )
