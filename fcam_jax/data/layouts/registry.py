"""The layouts that a data set's folder may have: which it has, which splits, and what it says of a split."""

import contextlib
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from fcam_jax.component import Registry
from fcam_jax.data.layouts import class_folders, coco, cub, manifest, voc, wsol, yolo
from fcam_jax.data.layouts.metadata import Layout, Metadata, Place, report_unlocalized
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.tree import absent, as_stored, listing
from fcam_jax.errors import InputError
from fcam_jax.runtime.text import listed

LAYOUTS: Registry[Layout] = Registry(
    "layout",
    {
        "wsol": wsol.LAYOUT,
        "manifest": manifest.LAYOUT,
        "coco": coco.LAYOUT,
        "cub": cub.LAYOUT,
        "voc": voc.LAYOUT,
        "yolo": yolo.LAYOUT,
        "classes": class_folders.LAYOUT,
    },
)
_NEAR = 20  # sub-folders, beyond which none is looked into for a data set


def locate(
    root: str | os.PathLike[str],
    layout: str = "",
    images: str | os.PathLike[str] | None = None,
    metadata: str | os.PathLike[str] | None = None,
    **reading: Any,
) -> Place:
    """Find out which layout a folder has.

    Args:
      root: the data set's folder.
      layout: one of `LAYOUTS`; by default the one that the folder has.
      images: folder that the paths of images start from; by default `images` below the root for "wsol", else the root.
      metadata: folder that holds what describes the images; by default `metadata` below the root for "wsol", else the
        root.
      reading: the other fields of `Place`.

    Raises:
      InputError: the folder is not there, or has no layout or several.
    """
    root = pathlib.Path(root)
    name = layout if layout and LAYOUTS[layout] else _only(root, images, metadata)
    place = dataclasses.replace(_place(name, root, images, metadata), guessed=not layout, **reading)
    for needed in (root, place.images, place.metadata):
        if not needed.is_dir():
            raise InputError(f"{needed}: no such folder (data.root must hold it)")
    return place


def splits(root: str | os.PathLike[str], layout: str = "") -> tuple[str, ...]:
    """Which of train, val and test a data set has.

    Raises:
      InputError: as for `locate`, and when it has none.
    """
    place = locate(root, layout)
    found = LAYOUTS[place.layout].splits(place.metadata)
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
    layout = LAYOUTS[place.layout]
    if layout.foreign and place.guessed:
        problems.warn(place.root, f"{layout.foreign} (if that is right: --config.data.layout={place.layout})")
    metadata = _renamed(layout.read(place, split, num_classes, problems), place.images)
    if split == "train" and len(labels := np.unique(metadata.labels)) == 1 and labels[0] >= 0:
        name = metadata.class_names[labels[0]] if metadata.class_names else f"label {labels[0]}"
        problems.warn(place.root, f"all training images are of one class, {name}: a classifier learns nothing from it")
    if split != "train":
        _settle_unlocalized(metadata, place, layout.localization(place, split), problems)
    return metadata


def _renamed(metadata: Metadata, images: pathlib.Path) -> Metadata:
    """With the names that files have in the folder, where these are the same letters in another form of Unicode."""
    names = {name for _, name in metadata.files() if not name.isascii()}
    stored = as_stored(images, sorted(absent(images, names))) if names else {}
    return metadata.renamed(stored) if stored else metadata


def _settle_unlocalized(metadata: Metadata, place: Place, file: pathlib.Path, problems: Problems) -> None:
    """Images with neither box nor mask where others have one: allowed where the user, or all images of a class, say so;
    otherwise an error of each.
    """
    localized = metadata.localized()
    broken = problems.images()
    lacking = ~localized & np.array([image_id not in broken for image_id in metadata.image_ids], bool)
    if not localized.any() or not lacking.any():
        return
    labels, count = np.unique(metadata.labels[lacking], return_counts=True)
    empty = all(n > 1 and not localized[metadata.labels == label].any() for label, n in zip(labels, count, strict=True))
    if not empty and place.unlocalized == "fail":
        report_unlocalized(metadata, file, problems, " (allowed by --config.data.folder.unlocalized=allow)")
        return
    names = [metadata.class_names[label] if metadata.class_names else f"label {label}" for label in labels]
    text = f"{lacking.sum()} of {len(localized)} images have neither box nor mask, of class {listed(names)}"
    problems.warn(file, f"{text}: they count for classification alone")


def _only(root: pathlib.Path, *folders: str | os.PathLike[str] | None) -> str:
    """The layout that a folder has."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; data.root must be the folder of the data set")
    found = [name for name, one in LAYOUTS.items() if not one.last and _has(name, _place(name, root, *folders))]
    if len(found) > 1:
        raise InputError(f"{root}: has the layouts {', '.join(found)}; name one: --config.data.layout={found[0]}")
    if found:
        return found[0]
    _refuse_above(root)
    for name, one in LAYOUTS.items():
        if one.last and _has(name, _place(name, root, *folders)):
            return name
    signs = ", nor ".join(layout.sign for layout in LAYOUTS.values())
    there = sorted(name for name in listing(root) if not name.startswith("."))
    has = f"; it has {listed(there)}" if there else "; it is empty"
    raise InputError(f"{root}: holds no data set: neither {signs} (docs/data/own.md shows the layouts){has}")


def _refuse_above(root: pathlib.Path) -> None:
    """Refuse a folder that has no layout, but holds one that has, or that is divided into splits."""
    if _is_divided(root):
        return
    near = _near(root)
    for below in (*near, *(two for one in near for two in _near(one))):
        for name, one in LAYOUTS.items():
            with contextlib.suppress(InputError):
                if _is_divided(below) if one.last else _has(name, _place(name, below)):
                    text = f"holds no data set itself, but {below.relative_to(root)} in it does, of layout {name}"
                    break
        else:
            continue
        raise Problems().stop(root, f"{text}: --config.data.root={below}")


def _is_divided(folder: pathlib.Path) -> bool:
    try:
        return any(class_folders.split_folders(folder).values())
    except InputError:
        return False


def _near(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder, where they are few, but for those of images."""
    names = class_folders.inside(folder)
    inside = [folder / name for name in names] if len(names) <= _NEAR else []
    return [below for below in inside if not class_folders.holds_image(below)]


def _place(
    name: str,
    root: pathlib.Path,
    images: str | os.PathLike[str] | None = None,
    metadata: str | os.PathLike[str] | None = None,
) -> Place:
    below = LAYOUTS[name].below
    return Place(name, root, pathlib.Path(images or root / below[0]), pathlib.Path(metadata or root / below[1]))


def _has(name: str, place: Place) -> bool:
    layout = LAYOUTS[name]
    return layout.present(place.metadata) if layout.present else bool(layout.splits(place.metadata))
