"""A data set of another program, read as a whole: its images with their objects, of which those of a split are taken.

In: an `Entry` for each image. Out: a `Layout`. Where the images name no splits, every class is divided by a seed.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import PIL.Image

from fcam_jax.data.images import orientation_of
from fcam_jax.data.layouts.boxes import BOX_RULE, corners, grouped, in_pixels
from fcam_jax.data.layouts.metadata import Layout, Masks, Metadata, Place, settle_names
from fcam_jax.data.layouts.paths import refused
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.source import SPLITS
from fcam_jax.runtime.files import IMAGE, open_regular
from fcam_jax.runtime.text import listed

# Of every class the first image is for training. The others, of all classes in turn, are for these.
_FIFTHS = ("val", "test", "train", "train", "train")
DIVIDED = "no splits are named: of every class a fifth of the images is taken for val and a fifth for test, by seed 0"


@dataclasses.dataclass
class Entry:
    """What is known of an image.

    Attributes:
      file: that describes it, for messages.
      image_id: its key.
      path: relative to the folder of images.
      split: that it is of; empty where none is named.
      size: width and height, 0 where they are not known.
      classes: of its objects.
      boxes: four numbers each, as the layout has them.
      masks: files and regions.
    """

    file: pathlib.Path
    image_id: str
    path: str
    split: str = ""
    size: tuple[int, int] = (0, 0)
    classes: list[str] = dataclasses.field(default_factory=list)
    boxes: list[list[float]] = dataclasses.field(default_factory=list)
    masks: Masks = Masks()  # noqa: RUF009 (it is frozen)


@dataclasses.dataclass(frozen=True)
class Whole:
    """All images of a data set.

    Attributes:
      file: that describes it, for messages.
      entries: of the images.
      classes: names in the order of the labels.
      form: of `boxes.FORMS`.
      shares: boxes are shares of the image.
    """

    file: pathlib.Path
    entries: list[Entry]
    classes: list[str]
    form: str
    shares: bool = False


def layout(present: Callable[[pathlib.Path], bool], read: Callable[[Place, Problems], Whole], **facts: Any) -> Layout:
    """A layout by what it is recognised by and by what it reads; `facts` are other fields of `Layout`."""

    def splits(root: pathlib.Path) -> tuple[str, ...]:
        whole = read(Place("", root, root, root), Problems()) if present(root) else None
        return splits_in(_settled(whole)) if whole else ()

    def read_split(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
        told = Problems()
        try:
            whole = read(place, told)
            found = _settled(whole)
            place.needs(split, splits_in(found))
            metadata = _metadata(whole, place, num_classes, told)
        except Exception:
            problems.found += told.found
            raise
        return part(metadata, found, split, told, problems)

    return Layout(
        splits,
        read_split,
        localization=lambda place, split: place.metadata,
        present=present,
        **facts,
    )


def divide(labels: Sequence[Any], turns: Sequence[str] = _FIFTHS) -> list[str]:
    """The split of each image by its class, None or -1 for none, which is for training; random, but always the same."""
    members: dict[Any, list[int]] = collections.defaultdict(list)
    for position, label in enumerate(labels):
        members[label].append(position)
    found, rng, turn = ["train"] * len(labels), np.random.default_rng(0), 0
    for label in sorted(label for label in members if label not in (None, -1)):
        for position in rng.permutation(members[label])[1:].tolist():
            found[position] = turns[turn % len(turns)]
            turn += 1
    return found


def splits_in(found: Collection[str]) -> tuple[str, ...]:
    """The splits that images have."""
    return tuple(split for split in SPLITS if split in found)


def part(whole: Metadata, found: Sequence[str], split: str, told: Problems, problems: Problems) -> Metadata:
    """The images of a split.

    Args:
      whole: all images.
      found: the split of each.
      split: which is wanted.
      told: what is wrong with the whole.
      problems: is told what of it concerns the split.
    """
    keep = np.array([one == split for one in found], bool)
    others = {image_id for image_id, kept in zip(whole.image_ids, keep.tolist(), strict=True) if not kept}
    problems.found += [problem for problem in told.found if problem.image_id not in others]
    return whole.select(keep)


def only_class(names: Collection[str]) -> str:
    """The class of an image by those of its objects.

    Raises:
      ValueError: they have several, or there is none.
    """
    if len(set(names)) == 1:
        return next(iter(names))
    text = f"objects of several categories: {listed(sorted(set(names)))}" if names else "no category: it has no object"
    raise ValueError(text)


def size_of(path: pathlib.Path, upright: bool) -> tuple[int, int]:
    """Width and height by the header of an image's file; 0 where it cannot be opened, which is told when it is read."""
    try:
        status = path.stat()
        return _size_of(path, upright, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError):
        return 0, 0


@functools.lru_cache(maxsize=2**18)
def _size_of(path: pathlib.Path, upright: bool, modified: int, length: int) -> tuple[int, int]:
    """Remembered: each split asks for those of all."""
    try:
        with open_regular(path, IMAGE) as file, PIL.Image.open(file) as image:
            return image.size[::-1] if upright and orientation_of(image) > 4 else image.size
    except Exception:  # the parsers in Pillow raise what they stumble over
        return 0, 0


def _settled(whole: Whole) -> list[str]:
    """The split of each image."""
    if any(entry.split for entry in whole.entries):
        return [entry.split for entry in whole.entries]
    return divide([entry.classes[0] if len(set(entry.classes)) == 1 else None for entry in whole.entries])


def _metadata(whole: Whole, place: Place, num_classes: int, problems: Problems) -> Metadata:
    """All images; `problems` is told what is wrong with them."""
    entries = whole.entries
    if not any(entry.split for entry in entries):
        problems.warn(whole.file, DIVIDED)
    if not whole.classes:
        problems.raise_first()
        raise problems.stop(whole.file, "none of its images has an object with a class")
    count, names = settle_names(whole.classes, num_classes, whole.file, problems)
    known = {name: label for label, name in enumerate(whole.classes)}
    labels = np.full(len(entries), -1, np.int32)
    told = problems.images()
    reasons = refused(name for entry in entries for name in (entry.path, *entry.masks.files()))
    for row, entry in enumerate(entries):
        try:
            for name in (entry.path, *entry.masks.files()) if reasons else ():
                if name in reasons:
                    raise ValueError(reasons[name])
            labels[row] = known[only_class(entry.classes)]
        except ValueError as error:
            if entry.image_id not in told:
                cure = "(--config.data.on_error=skip leaves it out)"
                problems.error(entry.file, f"{entry.image_id}: {error} {cure}", image_id=entry.image_id)
    sizes = np.array([entry.size for entry in entries], np.int32).reshape(-1, 2)
    rows = np.repeat(np.arange(len(entries)), [len(entry.boxes) for entry in entries])
    values = np.array([box for entry in entries for box in entry.boxes], np.float64).reshape(-1, 4)
    form = place.boxes or whole.form
    values = in_pixels(values, form, sizes[rows], whole.file, problems, whole.shares)
    boxes, fits = corners(values, form, sizes[rows])
    for row in rows[~fits].tolist():
        problems.error(entries[row].file, f"{entries[row].image_id}: {BOX_RULE}", image_id=entries[row].image_id)
    return Metadata(
        image_ids=[entry.image_id for entry in entries],
        labels=labels,
        sizes=sizes if sizes.any() else None,
        boxes=grouped(boxes[fits], rows[fits], len(entries)) if len(rows) else None,
        masks=_masks(whole, problems),
        num_classes=count,
        paths=[entry.path for entry in entries],
        class_names=names,
    )


def _masks(whole: Whole, problems: Problems) -> list[Masks] | None:
    """Of all images with an object, or none."""
    have = [bool(entry.masks.instances) for entry in whole.entries]
    if any(have) and not all(has or not entry.classes for has, entry in zip(have, whole.entries, strict=True)):
        problems.warn(whole.file, f"{have.count(False)} of {len(have)} images have no mask: no masks are used")
        return None
    return [entry.masks for entry in whole.entries] if any(have) else None
