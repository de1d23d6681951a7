"""What every layout ends in: `Metadata` of a split; and what its readers share: names of classes, places.

A layout is one file with a `Layout`, and a line in `registry.LAYOUTS`.
"""

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.data.layouts.boxes import BOX_RULE, fitting
from fcam_jax.data.layouts.problems import File, Problems
from fcam_jax.data.layouts.regions import Region
from fcam_jax.data.layouts.tree import split_of
from fcam_jax.errors import InputError
from fcam_jax.runtime.text import listed

# What becomes of images of val and test that have neither box nor mask, while others have.
UNLOCALIZED = ("fail", "allow")


@dataclasses.dataclass(frozen=True)
class Masks:
    """The masks of one image: paths of files, relative to the image folder, and regions."""

    instances: tuple[str | Region, ...] = ()  # one for each object
    ignore: tuple[str | Region, ...] = ()  # of undecided pixels

    def files(self) -> list[str]:
        """The paths among them."""
        return [mask for mask in (*self.instances, *self.ignore) if isinstance(mask, str)]


NO_MASKS = Masks()


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a data set says of the images of a split."""

    image_ids: list[str]  # keys of the images
    labels: Int[np.ndarray, " n"]  # class of each image, from 0; -1 where it is not known, which is an error
    # width and height of each image, 0 where they are not stated; None where none are
    sizes: Int[np.ndarray, "n 2"] | None
    # boxes of each image in its own pixels; None where there are none
    boxes: list[Int[np.ndarray, "_ 4"]] | None = None
    masks: list[Masks] | None = None  # of each image; None where there are none
    num_classes: int = 0  # labels are below it
    # of the images, relative to the image folder; the ids where it is empty
    paths: list[str] = dataclasses.field(default_factory=list)
    checksums: list[str] | None = None  # SHA-256 of each image file, empty where it is not stated; None where none are
    # in the order of the labels, "" where one has none; None where the data set does not say
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.paths:
            object.__setattr__(self, "paths", self.image_ids)

    def boxes_of(self, row: int) -> Int[np.ndarray, "_ 4"] | None:
        """The boxes of an image, which may be none; None where none has any."""
        return None if self.boxes is None else self.boxes[row]

    def masks_of(self, row: int) -> Masks:
        """The masks of an image."""
        return NO_MASKS if self.masks is None else self.masks[row]

    def name_of(self, label: int) -> str:
        """What messages call a class."""
        return self.class_names[label] if self.class_names else f"label {label}"

    def check_content(self, row: int, path: pathlib.Path, data: bytes) -> str:
        """The SHA-256 of an image's file. Raises InputError: another one is stated."""
        checksum = hashlib.sha256(data).hexdigest()
        if self.checksums and self.checksums[row] not in ("", checksum):
            raise InputError(f"{path}: is damaged or was exchanged: its SHA-256 is not the one of the manifest")
        return checksum

    def check_size(self, row: int, path: pathlib.Path, size: tuple[int, int]) -> None:
        """Compare an image's width and height with what is said of the image, and its boxes with them. Raises
        InputError: another size is stated, or a box lies outside.
        """
        stated = (0, 0) if self.sizes is None else tuple(self.sizes[row].tolist())
        has = f"{path}: has {size[0]} x {size[1]} pixels"
        if stated not in ((0, 0), size):
            raise InputError(f"{has}, but {stated[0]} x {stated[1]} according to the data set's description")
        boxes = self.boxes_of(row)
        if boxes is not None and not (fits := fitting(boxes, size)).all():
            raise InputError(f"{has}; {BOX_RULE}: {boxes[np.argmin(fits)].tolist()}")

    def localized(self) -> Bool[np.ndarray, " n"]:
        """Which images have a box or a mask."""
        found = np.zeros(len(self.image_ids), bool)
        for objects in (self.boxes or [], [masks.instances for masks in self.masks or ()]):
            if objects:
                found |= np.fromiter(map(len, objects), np.int64) > 0
        return found

    def truth(self) -> tuple[str, ...]:
        """Which of "boxes" and "mask" there are."""
        there = {"boxes": any(map(len, self.boxes or ())), "mask": any(one.instances for one in self.masks or ())}
        return tuple(name for name, found in there.items() if found)

    def files(self) -> list[tuple[str, str]]:
        """The id of an image and the path of its file, for all images, and the same for all masks that are files."""
        masks = zip(self.image_ids, self.masks or (), strict=self.masks is not None)
        of_masks = [(image_id, name) for image_id, some in masks for name in some.files()]
        return [*zip(self.image_ids, self.paths, strict=True), *of_masks]

    def without(self, image_ids: Collection[str]) -> Bool[np.ndarray, " n"]:
        """Which images are others than these."""
        return np.array([image_id not in image_ids for image_id in self.image_ids], bool)

    def select(self, keep: Bool[np.ndarray, " n"]) -> "Metadata":
        """The same of some of the images."""
        rows = np.flatnonzero(keep)
        chosen: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                chosen[field.name] = value[rows]
            elif isinstance(value, list):
                chosen[field.name] = [value[row] for row in rows.tolist()]
        return dataclasses.replace(self, **chosen)

    def renamed(self, names: Mapping[str, str]) -> "Metadata":
        """The same with other names for some of the files."""

        def new(masks: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(names.get(mask, mask) if isinstance(mask, str) else mask for mask in masks)

        masks = self.masks and [Masks(new(some.instances), new(some.ignore)) for some in self.masks]
        return dataclasses.replace(self, paths=[names.get(path, path) for path in self.paths], masks=masks)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a data set lies."""

    layout: str  # one of `registry.LAYOUTS`
    root: pathlib.Path  # its folder
    images: pathlib.Path  # folder that the paths of images start from
    metadata: pathlib.Path  # folder that holds what describes the images
    boxes: str = ""  # one of `boxes.FORMS`, in which boxes are written; empty: the layout's own
    unlocalized: str = "fail"  # one of `UNLOCALIZED`
    upright: bool = False  # images are turned as their EXIF orientation says
    guessed: bool = False  # the layout was found by looking

    def needs(self, split: str, found: Collection[str]) -> None:
        """Refuse a split that is not there."""
        if split not in found:
            raise InputError(f"{self.metadata}: has no split {split!r}; it has: {', '.join(found) or 'none'}")


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to lay out a data set."""

    # finds the splits in the folder of the metadata; none where the folder has another layout
    splits: Callable[[pathlib.Path], tuple[str, ...]]
    # the metadata of a split, which must be there; the number of classes may be 0, for as many as there are
    read: Callable[[Place, str, int, Problems], Metadata]
    sign: str  # what it is recognised by, for messages
    # the file that holds boxes and masks of a split, for messages
    localization: Callable[[Place, str], pathlib.Path] = lambda place, split: place.metadata
    # whether a folder of metadata has this layout; by default whether it has splits
    present: Callable[[pathlib.Path], bool] | None = None
    last: bool = False  # every layout has what it is recognised by, so it is taken where there is no other
    foreign: str = ""  # it is that of another program, and so told where it was not asked for: what is taken for what
    below: tuple[str, str] = ("", "")  # images and metadata lie in folders of these names below the root
    mask_threshold: float = -1.0  # the object lies above it in mask files, where that is known; -1 where it is not


def report_unlocalized(metadata: Metadata, file: pathlib.Path, problems: Problems, hint: str = "") -> None:
    """An error for every image that has neither box nor mask, and no other error, which may be why."""
    for row in np.flatnonzero(~metadata.localized() & metadata.without(problems.images())).tolist():
        image_id = metadata.image_ids[row]
        problems.error(file, f"no box or mask of {image_id}{hint}", image_id=image_id)


def ordered(names: Iterable[str]) -> list[str]:
    """Names of classes in the order of their labels: sorted, and by their value where all are numbers."""
    found = sorted(names)
    by_value = lambda name: (len(name.lstrip("0")), name.lstrip("0"))  # noqa: E731
    return sorted(found, key=by_value) if all(name.isascii() and name.isdigit() for name in found) else found


def settle_names(names: Sequence[str], num_classes: int, file: File, problems: Problems) -> tuple[int, tuple[str, ...]]:
    """The number of classes, that of the names where the user gave 0, and a name for each, "" after the last. Raises
    InputError: there are more names than classes, or none.
    """
    if not names:
        problems.settle()  # what is wrong already may be why
        raise problems.stop(file, "names no classes")
    if 0 < num_classes < len(names):
        text = f"names {len(names)} classes ({listed(names)}), but data.num_classes is {num_classes}"
        raise problems.stop(file, text)
    count = num_classes or len(names)
    return count, (*names, *[""] * (count - len(names)))


def folder_names(image_ids: Sequence[str], labels: Int[np.ndarray, " n"], num_classes: int) -> tuple[str, ...] | None:
    """Names of the classes by the folder that an id leads to, as in ``001.Albatross/1.jpg``.

    None unless every class has images, all of them in one folder which no other class has, and folders are not those of
    splits. Labels may be -1, unknown.
    """
    folders: dict[int, set[str]] = collections.defaultdict(set)
    for image_id, label in zip(image_ids, labels.tolist(), strict=True):
        if label >= 0:
            folders[label].add(image_id.rpartition("/")[0].rpartition("/")[2])
    if len(folders) != num_classes or any(len(some) != 1 for some in folders.values()):
        return None
    names = tuple(min(folders[label]) for label in range(num_classes))
    return names if all(names) and len(set(names)) == num_classes and not all(map(split_of, names)) else None
