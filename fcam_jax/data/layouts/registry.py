"""The layouts that a data set's folder may have: which it has, which splits, and what it says of a split."""

import os
import pathlib

from fcam_jax.component import Registry
from fcam_jax.data.layouts import class_folders, coco, manifest, wsol
from fcam_jax.data.layouts.metadata import Layout, Metadata, Place, report_unlocalized
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.errors import InputError

LAYOUTS: Registry[Layout] = Registry(
    "layout",
    {"wsol": wsol.LAYOUT, "manifest": manifest.LAYOUT, "coco": coco.LAYOUT, "classes": class_folders.LAYOUT},
)


def locate(
    root: str | os.PathLike[str],
    layout: str = "",
    images: str | os.PathLike[str] | None = None,
    metadata: str | os.PathLike[str] | None = None,
) -> Place:
    """Find out which layout a folder has.

    Args:
      root: the data set's folder.
      layout: one of `LAYOUTS`; by default the one that the folder has.
      images: folder that the paths of images start from; by default `images` below the root for "wsol", else the root.
      metadata: folder that holds what describes the images; by default `metadata` below the root for "wsol", else the
        root.

    Raises:
      InputError: the folder is not there, or has no layout or several.
    """
    root = pathlib.Path(root)
    places = {
        name: Place(
            name, root, pathlib.Path(images or root / one.below[0]), pathlib.Path(metadata or root / one.below[1])
        )
        for name, one in LAYOUTS.items()
    }
    place = places[layout if layout and LAYOUTS[layout] else _only(places)]
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
    metadata = layout.read(place, split, num_classes, problems)
    localized = metadata.localized()
    if split != "train" and localized.any() and not localized.all():
        report_unlocalized(metadata, layout.localization(place, split), problems)
    return metadata


def _only(places: dict[str, Place]) -> str:
    """The layout that a folder has."""
    root = next(iter(places.values())).root
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; data.root must be the folder of the data set")
    for last in (False, True):
        found = [name for name, one in LAYOUTS.items() if one.last == last and _has(one, places[name])]
        if len(found) > 1:
            raise InputError(f"{root}: has the layouts {', '.join(found)}; name one: --config.data.layout={found[0]}")
        if found:
            return found[0]
    signs = ", nor ".join(layout.sign for layout in LAYOUTS.values())
    raise InputError(f"{root}: holds no data set: neither {signs} (docs/data/own.md shows the layouts)")


def _has(layout: Layout, place: Place) -> bool:
    return layout.present(place.metadata) if layout.present else bool(layout.splits(place.metadata))
