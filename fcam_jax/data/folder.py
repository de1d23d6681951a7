"""A data set in a folder, whatever its layout: images, and what text files, tables or folders say of them.

In: the folder. Out: records. All that can be checked without decoding an image is checked when the source is made.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.component import at_least, known
from fcam_jax.data.images import Window, decode_image, read_bytes
from fcam_jax.data.layouts.boxes import BOX_RULE, FORMS, fitting
from fcam_jax.data.layouts.metadata import UNLOCALIZED, Masks, Metadata, Place
from fcam_jax.data.layouts.paths import absent
from fcam_jax.data.layouts.problems import ON_ERROR, Problems
from fcam_jax.data.layouts.regions import Region
from fcam_jax.data.layouts.registry import LAYOUTS, locate, read, splits
from fcam_jax.data.masks import OF, MaskRule, read_mask
from fcam_jax.data.source import Record, fingerprint, needs_root
from fcam_jax.errors import InputError

# With more, where the number of classes is left to the data, a label is taken to be mistyped.
_CLASSES_PER_IMAGE = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
    """A data set in a folder of the user's.

    Attributes:
      root: the data set's folder.
      layout: one of those in docs/data/own.md, such as "manifest"; empty: the one that the folder has.
      num_classes: number of classes; 0: as many as the data set has.
      upright: turn images as their EXIF orientation says; sizes and boxes are then those of upright images.
      on_error: "fail" raises the first error, "skip" leaves images with an error out.
      boxes: what the numbers of a box are: "corners", "xywh", "centre" or "yx"; empty: what the layout says.
      unlocalized: val and test images with neither box nor mask, while others have: "fail", or "allow" them to count
        for classification alone.
      window: values of black and white in images of more than 8 bits; empty: 0 and 65535.
      mask_is: the object is where mask files are "bright" or "dark", where their "alpha" is high, or their palette's
        "index"; empty: alpha where it differs between pixels, else bright.
      mask_threshold: the object lies above it ("dark": not above it), in the mask files' own units; -1: 0, or 127 for
        alpha, in formats that change pixels, such as JPEG, and for the votes in CUB's download.
    """

    root: str = ""
    layout: str = ""
    num_classes: int = 0
    upright: bool = False
    on_error: str = "fail"
    boxes: str = ""
    unlocalized: str = "fail"
    window: Window = ()
    mask_is: str = ""
    mask_threshold: float = -1.0

    def __post_init__(self) -> None:
        needs_root(self.root)
        known(self, on_error=ON_ERROR, boxes=("", *FORMS), unlocalized=UNLOCALIZED, mask_is=OF)
        at_least(self, mask_threshold=-1)
        numbers = all(isinstance(value, int | float) for value in self.window)
        if self.window and not (numbers and len(self.window) == 2 and self.window[0] < self.window[1]):
            raise InputError(f"window is {self.window}; it must be two numbers, the values of black and of white")

    def reading(self, place: Place) -> "Reading":
        """How the files of a place are read; the masks of some layouts are known."""
        known_threshold = LAYOUTS[place.layout].mask_threshold if self.mask_threshold == -1 else self.mask_threshold
        return Reading(self.upright, self.window, MaskRule(self.mask_is, known_threshold))

    def place(self, **folders: Any) -> Place:
        """Where it lies, and how it is to be read; `folders` as for `layouts.registry.locate`."""
        reading = {name: getattr(self, name) for name in ("boxes", "unlocalized", "upright")}
        return locate(self.root, self.layout, **folders, **reading)

    def splits(self) -> tuple[str, ...]:
        """Those that the layout has."""
        return splits(self.root, self.layout)

    def open(self, split: str) -> "FolderSource":
        """The records of a split."""
        return FolderSource(split=split, **dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files of images and masks are read; see `Folder`."""

    upright: bool = False
    window: Window = ()
    masks: MaskRule = MaskRule()  # noqa: RUF009 (it is frozen)


@dataclasses.dataclass(frozen=True)
class Described:
    """What is known of a split without a look at its images.

    Attributes:
      place: where the data set lies.
      name: of the split.
      metadata: what describes it; without images where that cannot be read.
      problems: with the split.
      reading: how its files are read.
    """

    place: Place
    name: str
    metadata: Metadata
    problems: Problems
    reading: Reading


class FolderSource:
    """The records of one split of a data set in a folder.

    Attributes:
      described: what the records are made of.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str | os.PathLike[str],
        images: str | os.PathLike[str] | None = None,
        metadata: str | os.PathLike[str] | None = None,
        **settings: Any,
    ):
        """Read and check what is known of the split, and that its files are there.

        Args:
          split: its name.
          root: as in `Folder`.
          images: folder that the paths of images start from; see `layouts.registry.locate`, as for `metadata`.
          metadata: folder that holds what describes the images.
          **settings: further ones of `Folder`.

        Raises:
          InputError: for whatever is missing or contradicts itself, with the file's name.
        """
        data, problems = Folder(root=os.fspath(root), **settings), Problems()
        place = data.place(images=images, metadata=metadata)
        said = read(place, split, data.num_classes, problems)
        if data.num_classes == 0 and said.num_classes > _CLASSES_PER_IMAGE * len(said.image_ids):
            text = f"its labels give {said.num_classes} classes for {len(said.image_ids)} images of {split}"
            raise InputError(f"{place.metadata}: {text}; if that is right, give data.num_classes")
        report_absent(place, said, problems)
        left_out = problems.settle(data.on_error, root)
        keep = np.array([image_id not in left_out for image_id in said.image_ids], bool)
        if not keep.any():
            first = next(iter(left_out.values()), "")
            raise InputError(f"{place.root}: every image of split {split} has an error: {first}")
        self._metadata = said.select(keep)
        self.described = Described(place, split, self._metadata, problems, data.reading(place))
        self.num_classes = said.num_classes
        self.class_names = said.class_names
        self.truth = self._metadata.truth() if split != "train" or self._metadata.localized().all() else ()
        self.left_out = tuple(left_out.values())
        kinds = [" upright"] if data.upright else []  # what is kept of one kind of pixels is not for the other
        kinds += [f" {data.window}"] if data.window else []
        self.fingerprint = fingerprint(self._metadata.image_ids, self._metadata.labels.tolist()) + "".join(kinds)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._metadata.image_ids)

    def labels(self) -> Int[np.ndarray, " n"]:
        """The class of every record."""
        return self._metadata.labels

    def __getitem__(self, index: int) -> Record:
        """The record at a position, in the order of the data set.

        Raises:
          InputError: when a file cannot be decoded, or is not as the data set says.
        """
        return read_record(self._metadata, self.described.place.images, index, self.described.reading)


def read_record(metadata: Metadata, images: pathlib.Path, index: int, reading: Reading) -> Record:
    """Decode an image, at a position in the split, and its masks; their paths start from a folder of images.

    Raises:
      InputError: when a file cannot be decoded, or is not as the metadata say: other bytes, another size, boxes outside
        the image, masks of several sizes.
    """
    path = images / metadata.paths[index]
    data = read_bytes(path)
    published = check_content(metadata, index, path, data) if metadata.checksums and metadata.checksums[index] else ""
    image = decode_image(data, str(path), upright=reading.upright, trusted=bool(published), window=reading.window)
    check_size(metadata, index, path, (image.shape[1], image.shape[0]))
    boxes = metadata.boxes[index] if metadata.boxes is not None and len(metadata.boxes[index]) else None
    mask, ignore = read_masks(metadata, images, index, reading.masks)
    return Record(image, int(metadata.labels[index]), metadata.image_ids[index], boxes, mask, ignore)


def check_content(metadata: Metadata, index: int, path: pathlib.Path, data: bytes) -> str:
    """The SHA-256 of an image's file.

    Raises:
      InputError: the metadata state another one.
    """
    checksum = hashlib.sha256(data).hexdigest()
    if metadata.checksums and metadata.checksums[index] not in ("", checksum):
        raise InputError(f"{path}: is damaged or was exchanged: its SHA-256 is not the one of the manifest")
    return checksum


def check_size(metadata: Metadata, index: int, path: pathlib.Path, size: tuple[int, int]) -> None:
    """Compare an image's width and height with what the metadata say of the image, and its boxes with them.

    Raises:
      InputError: another size is stated, or a box lies outside.
    """
    stated = (0, 0) if metadata.sizes is None else tuple(metadata.sizes[index].tolist())
    has = f"{path}: has {size[0]} x {size[1]} pixels"
    if stated not in ((0, 0), size):
        raise InputError(f"{has}, but {stated[0]} x {stated[1]} according to the data set's description")
    if metadata.boxes is not None:
        boxes = metadata.boxes[index]
        fits = fitting(boxes, np.broadcast_to(np.array(size), (len(boxes), 2)))
        if not fits.all():
            raise InputError(f"{has}; {BOX_RULE}: {boxes[np.argmin(fits)].tolist()}")


def read_masks(
    metadata: Metadata, images: pathlib.Path, index: int, rule: MaskRule
) -> tuple[Bool[np.ndarray, "mask_h mask_w"] | None, Bool[np.ndarray, "ignore_h ignore_w"] | None]:
    """The union of an image's masks, and its ignore mask; None where it has none.

    Raises:
      InputError: a file cannot be decoded, or masks of the image differ in size.
    """
    masks, name = metadata.masks[index] if metadata.masks is not None else Masks(), metadata.image_ids[index]
    return _united(masks.instances, images, name, rule), _united(masks.ignore, images, name, MaskRule())


def report_absent(place: Place, metadata: Metadata, problems: Problems) -> None:
    """An error for every image and mask that is not there, of images without another error: paths may be why."""
    told, files = problems.images(), metadata.files()
    missing = absent(place.images, (name for image_id, name in files if image_id not in told))
    for image_id, name in files if missing else ():
        if name in missing:
            problems.error(place.images / name, "no such file", image_id=image_id)


def _united(
    masks: Sequence[str | Region], images: pathlib.Path, name: str, rule: MaskRule
) -> Bool[np.ndarray, "_ _"] | None:
    united = None
    for mask in masks:
        part = read_mask(images / mask, rule) if isinstance(mask, str) else mask.mask()
        if united is not None and united.shape != part.shape:
            file = images / mask if isinstance(mask, str) else name
            raise InputError(f"{file}: its size is not that of the other masks of its image")
        united = part if united is None else united | part
    return united
