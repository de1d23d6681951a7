"""A data set as images with their objects, an `Entry` each, and metadata out of them.

Where the images of another program's data set name no splits, every class is divided by a seed.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Int

from fcam_jax.data.images import orientation_of
from fcam_jax.data.layouts.boxes import BOX_RULE, FORMS, of_images
from fcam_jax.data.layouts.metadata import NO_MASKS, Layout, Masks, Metadata, Place, settle_names
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.tree import in_order, refused
from fcam_jax.runtime.files import IMAGE, open_regular
from fcam_jax.runtime.text import listed

# Of every class the first image is for training. The others, of all classes in turn, are for these.
_FIFTHS = ("val", "test", "train", "train", "train")
DIVIDED = "no splits are named: of every class a fifth of the images is taken for val and a fifth for test, by seed 0"


@dataclasses.dataclass(slots=True)  # neither frozen nor with a dictionary: there may be a million
class Entry:
    """What is known of an image."""

    file: pathlib.Path  # that describes it, for messages
    image_id: str  # its key
    path: str  # relative to the folder of images
    split: str = ""  # that it is of; empty where none is named
    size: tuple[int, int] = (0, 0)  # width and height, 0 where they are not known
    classes: Sequence[Any] = ()  # of its objects
    boxes: Sequence[Sequence[int | float]] = ()  # four numbers each, as the file has them
    masks: Masks = NO_MASKS  # files and regions
    checksum: str = ""  # SHA-256 of its file, empty where it is not stated
    line: int | None = None  # of the file; None where it is not about one line
    place: str = ""  # in the file, for messages
    places: Sequence[str] = ()  # likewise of each box

    def error(self, problems: Problems, text: str, *, place: str = "", line: int | None = None) -> None:
        """An error of this image, at its own place and line if at no other."""
        before = f"{place or self.place}, " if place or self.place else ""
        problems.error(self.file, f"{before}{self.image_id}: {text}", line=line or self.line, image_id=self.image_id)


@dataclasses.dataclass(frozen=True)
class Content:
    """What a file, or a data set, says of its images."""

    file: pathlib.Path  # that describes them, for messages
    entries: list[Entry]  # of the images
    classes: list[str]  # names in the order of the labels
    form: str  # of `boxes.FORMS`
    shares: bool = False  # boxes are shares of the image

    def divided(self) -> bool:
        """Name splits where none is named; whether that was needed."""
        if any(entry.split for entry in self.entries):
            return False
        labels = [entry.classes[0] if len(set(entry.classes)) == 1 else None for entry in self.entries]
        for entry, split in zip(self.entries, divide(labels), strict=True):
            entry.split = split
        return True


def layout(present: Callable[[pathlib.Path], bool], read: Callable[[Place, Problems], Content], **facts: Any) -> Layout:
    """A layout that is read as a whole, by what it is recognised by; `facts` are other fields of `Layout`."""

    def splits(root: pathlib.Path) -> tuple[str, ...]:
        if not present(root):
            return ()
        content = read(Place("", root, root, root), Problems())
        content.divided()
        return in_order({entry.split for entry in content.entries})

    def read_split(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
        told = Problems()
        try:
            content = read(place, told)
            if content.divided():
                told.warn(content.file, DIVIDED)
            place.needs(split, in_order({entry.split for entry in content.entries}))
            whole = assembled(content, place, num_classes, told)
        except Exception:
            problems.found += told.found
            raise
        others = {entry.image_id for entry in content.entries if entry.split != split}
        problems.found += [problem for problem in told.found if problem.image_id not in others]
        return whole.select(np.array([entry.split == split for entry in content.entries], bool))

    return Layout(splits, read_split, present=present, **facts)


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


def only_class(names: Collection[str]) -> str:
    """The class of an image by those of its objects. Raises ValueError: they have several, or there is none."""
    if len(set(names)) == 1:
        return next(iter(names))
    text = f"objects of several categories: {listed(sorted(set(names)))}" if names else "no category: it has no object"
    raise ValueError(text)


def assembled(content: Content, place: Place, num_classes: int, problems: Problems) -> Metadata:
    """The metadata of all images, where each has the class of its objects; `problems` is told what is wrong."""
    count, names = settle_names(content.classes, num_classes, content.file, problems)
    report_refused(content.entries, problems)
    known = {name: label for label, name in enumerate(content.classes)}
    labels = np.full(len(content.entries), -1, np.int32)
    told = problems.images()
    for row, entry in enumerate(content.entries):
        try:
            labels[row] = known[only_class(entry.classes)]
        except ValueError as error:
            if entry.image_id not in told:
                entry.error(problems, f"{error} (--config.data.on_error=skip leaves it out)")
    return metadata_of(content, labels, count, names, place, problems)


def metadata_of(
    content: Content,
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    names: tuple[str, ...] | None,
    place: Place,
    problems: Problems,
    looked_up: Int[np.ndarray, "n 2"] | None = None,
) -> Metadata:
    """Entries with their labels as metadata; `problems` is told of boxes that are none of their image.

    Sizes that are `looked_up` are those of the images' files, where they are not stated.
    """
    entries, form = content.entries, place.boxes or content.form
    sizes = np.array([entry.size for entry in entries], np.int32).reshape(-1, 2)
    rows = np.repeat(np.arange(len(entries)), [len(entry.boxes) for entry in entries])
    boxes = None
    if len(rows):
        values = np.array([box for entry in entries for box in entry.boxes], np.float64)
        boxes, fits = of_images(
            values, rows, sizes, form, content.file, problems, shares=content.shares, looked_up=looked_up
        )
        firsts = np.searchsorted(rows, rows)
        for box in np.flatnonzero(~fits).tolist():
            entry, number = entries[rows[box]], box - firsts[box]
            text = f"{BOX_RULE}, as {FORMS[form]}: {list(entry.boxes[number])}"
            entry.error(problems, text, place=entry.places[number] if entry.places else "")
    checksums = [entry.checksum for entry in entries]
    masks = [entry.masks for entry in entries]
    return Metadata(
        image_ids=[entry.image_id for entry in entries],
        labels=labels,
        sizes=sizes if sizes.any() else None,
        boxes=boxes,
        masks=masks if any(some.instances or some.ignore for some in masks) else None,
        num_classes=num_classes,
        paths=[entry.path for entry in entries],
        checksums=checksums if any(checksums) else None,
        class_names=names,
    )


def all_or_no_masks(file: pathlib.Path, entries: Sequence[Entry], problems: Problems) -> None:
    """Drop the masks where an image with an object has none."""
    masked = [bool(entry.masks.instances) for entry in entries]
    if any(masked) and any(entry.classes and not one for entry, one in zip(entries, masked, strict=True)):
        problems.warn(file, f"{masked.count(False)} of {len(masked)} images have no mask: no masks are used")
        for entry in entries:
            entry.masks = NO_MASKS


def report_refused(entries: Iterable[Entry], problems: Problems) -> None:
    """An error for every image of which a path may not be opened."""
    reasons = refused(name for entry in entries for name in (entry.path, *entry.masks.files()))
    for entry in entries if reasons else ():
        for name in (entry.path, *entry.masks.files()):
            if name in reasons:
                entry.error(problems, f"{reasons[name]}: {name}")


def size_of(path: pathlib.Path, upright: bool) -> tuple[int, int]:
    """Width and height by the header of an image's file; 0 where it cannot be opened, which is told when it is read."""
    try:
        status = path.stat()
        return _size_of(path, upright, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError):
        return 0, 0


@functools.lru_cache(maxsize=2**18)  # each split asks for those of all
def _size_of(path: pathlib.Path, upright: bool, modified: int, length: int) -> tuple[int, int]:
    try:
        with open_regular(path, IMAGE) as file, PIL.Image.open(file) as image:
            return image.size[::-1] if upright and orientation_of(image) > 4 else image.size
    except Exception:  # the parsers in Pillow raise what they stumble over
        return 0, 0
