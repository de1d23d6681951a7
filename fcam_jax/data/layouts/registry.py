"""The layouts that a data set's folder may have: which it has, which splits, and what it says of a split."""

import contextlib
import dataclasses
import pathlib
from typing import Any

import numpy as np

from fcam_jax.component import Registry
from fcam_jax.data.layouts import class_folders, coco, cub, manifest, voc, wsol, yolo
from fcam_jax.data.layouts.metadata import Layout, Metadata, Place, report_unlocalized
from fcam_jax.data.layouts.problems import File, Problems
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


def locate(root: File, layout: str = "", **reading: Any) -> Place:
    """A data set's folder by its layout, which is looked for by default; `reading` has the other fields of `Place`.

    Raises:
      InputError: the folder is not there, or has no layout or several.
    """
    root = pathlib.Path(root)
    place = _place(layout, root) if layout else None
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; data.root must be the folder of the data set")
    place = dataclasses.replace(place or _found(root), guessed=not layout, **reading)
    for needed in (place.images, place.metadata):
        if not needed.is_dir():
            raise InputError(f"{needed}: no such folder (data.root must hold it)")
    return place


def splits(root: File, layout: str = "") -> tuple[str, ...]:
    """Which of train, val and test a data set has. Raises InputError: as for `locate`, and when it has none."""
    place = locate(root, layout)
    found = LAYOUTS[place.layout].splits(place.metadata)
    if not found:
        raise InputError(f"{place.metadata}: no split of layout {place.layout!r} there (see docs/data/own.md)")
    return found


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """What a data set says of a split; files of images and masks are not looked for.

    Labels must be below the number of classes; 0 is for as many as the data set has. `problems` is told of everything
    that is wrong with the split.

    Raises:
      InputError: there is no such split, or nothing can be made of what describes it.
    """
    layout = LAYOUTS[place.layout]
    if layout.foreign and place.guessed:
        problems.warn(place.root, f"{layout.foreign} (if that is right: --config.data.layout={place.layout})")
    metadata = layout.read(place, split, num_classes, problems)
    names = {name for _, name in metadata.files() if not name.isascii()}
    if names and (stored := as_stored(place.images, sorted(absent(place.images, names)))):
        metadata = metadata.renamed(stored)
    if split != "train":
        _settle_unlocalized(metadata, place, layout.localization(place, split), problems)
    elif len(labels := np.unique(metadata.labels).tolist()) == 1 and labels[0] >= 0:
        name = metadata.name_of(labels[0])
        problems.warn(place.root, f"all training images are of one class, {name}: a classifier learns nothing from it")
    return metadata


def _settle_unlocalized(metadata: Metadata, place: Place, file: pathlib.Path, problems: Problems) -> None:
    """Images with neither box nor mask where others have one: allowed where the user, or all images of a class, say so;
    otherwise an error of each.
    """
    localized = metadata.localized()
    lacking = ~localized & metadata.without(problems.images())
    if not localized.any() or not lacking.any():
        return
    labels, count = np.unique(metadata.labels[lacking], return_counts=True)
    empty = all(n > 1 and not localized[metadata.labels == label].any() for label, n in zip(labels, count, strict=True))
    if not empty and place.unlocalized == "fail":
        report_unlocalized(metadata, file, problems, " (allowed by --config.data.folder.unlocalized=allow)")
        return
    text = f"{lacking.sum()} of {len(localized)} images have neither box nor mask, of class"
    names = listed([metadata.name_of(label) for label in labels.tolist()])
    problems.warn(file, f"{text} {names}: they count for classification alone")


def _found(root: pathlib.Path) -> Place:
    """The place by the layout that a folder has."""
    places = [_place(name, root) for name in LAYOUTS]
    found = [place for place in places if not LAYOUTS[place.layout].last and _is_there(place)]
    if len(found) > 1:
        names = ", ".join(place.layout for place in found)
        raise InputError(f"{root}: has the layouts {names}; name one: --config.data.layout={found[0].layout}")
    if not found:
        _refuse_above(root)
        found = [place for place in places if LAYOUTS[place.layout].last and _is_there(place)]
    if not found:
        signs = ", nor ".join(layout.sign for layout in LAYOUTS.values())
        there = listed(sorted(name for name in listing(root) if not name.startswith("."))) or "nothing"
        text = f"neither {signs} (docs/data/own.md shows the layouts); it has {there}"
        raise InputError(f"{root}: holds no data set: {text}")
    return found[0]


def _refuse_above(root: pathlib.Path) -> None:
    """Refuse a folder that has no layout, but holds one that has, or that is divided into splits."""
    if _is_divided(root):
        return
    near = class_folders.near(root)
    for below in (*near, *(two for one in near for two in class_folders.near(one))):
        for name, one in LAYOUTS.items():
            with contextlib.suppress(InputError):
                if _is_divided(below) if one.last else _is_there(_place(name, below)):
                    text = f"holds no data set itself, but {below.relative_to(root)} in it does, of layout {name}"
                    break
        else:
            continue
        raise InputError(f"{root}: {text}: --config.data.root={below}")


def _is_divided(folder: pathlib.Path) -> bool:
    with contextlib.suppress(InputError):
        return any(class_folders.split_folders(folder).values())
    return False


def _place(name: str, root: pathlib.Path) -> Place:
    images, metadata = LAYOUTS[name].below
    return Place(name, root, root / images, root / metadata)


def _is_there(place: Place) -> bool:
    layout = LAYOUTS[place.layout]
    return layout.present(place.metadata) if layout.present else bool(layout.splits(place.metadata))
