"""A data set in a folder, whatever its layout: images, and what text files, tables or folders say of them.

In: the folder. Out: records. All that can be checked without decoding an image is checked when the source is made.
"""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.component import at_least, known
from fcam_jax.data.images import Window, decode_image, read_bytes
from fcam_jax.data.layouts.boxes import FORMS
from fcam_jax.data.layouts.metadata import UNLOCALIZED, Metadata, Place
from fcam_jax.data.layouts.problems import ON_ERROR, Problems
from fcam_jax.data.layouts.regions import Region
from fcam_jax.data.layouts.registry import LAYOUTS, locate, read, splits
from fcam_jax.data.layouts.tree import absent
from fcam_jax.data.masks import OF, MaskRule, decode_mask
from fcam_jax.data.source import Record, fingerprint, needs_root
from fcam_jax.errors import InputError

Plane = Bool[np.ndarray, "_ _"]

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
        "index", or where they have one value, such as "1"; empty: alpha where it differs between pixels, else bright.
      mask_threshold: the object lies above it ("dark": not above it), in the mask files' own units; -1: 0, or 127 for
        alpha, in formats that change pixels, such as JPEG, and for the votes in CUB's download.
      mask_undecided: value of mask files where it is not known what is the object, such as a rim; -1: none.
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
    mask_undecided: float = -1.0

    def __post_init__(self) -> None:
        needs_root(self.root)
        known(self, on_error=ON_ERROR, boxes=("", *FORMS), unlocalized=UNLOCALIZED)
        if self.mask_is not in OF and not str(self.mask_is).isdecimal():
            raise InputError(f"mask_is is {self.mask_is!r}; known: {', '.join(OF[1:])}, or a value such as 1")
        at_least(self, mask_threshold=-1, mask_undecided=-1)
        numbers = all(isinstance(value, int | float) for value in self.window)
        if self.window and not (numbers and len(self.window) == 2 and self.window[0] < self.window[1]):
            raise InputError(f"window is {self.window}; it must be two numbers, the values of black and of white")

    def place(self) -> Place:
        """Where it lies, and how it is to be read."""
        reading = {name: getattr(self, name) for name in ("boxes", "unlocalized", "upright")}
        return locate(self.root, self.layout, **reading)

    def splits(self) -> tuple[str, ...]:
        """Those that the layout has."""
        return splits(self.root, self.layout)

    def open(self, split: str) -> "FolderSource":
        """The records of a split."""
        return FolderSource(split=split, **dataclasses.asdict(self))

    def describe(self, place: Place, split: str, problems: Problems) -> "Described":
        """What is known of a split, and whether its files are there; `problems` is told what is wrong. Raises
        InputError: nothing can be made of what describes it.
        """
        metadata = read(place, split, self.num_classes, problems)
        # Of images without another error: paths may be why.
        told, files = problems.images(), metadata.files()
        missing = absent(place.images, (name for image_id, name in files if image_id not in told))
        for image_id, name in files if missing else ():
            if name in missing:
                problems.error(place.images / name, "no such file", image_id=image_id)
        return Described(self, place, split, metadata, problems)


@dataclasses.dataclass(frozen=True)
class Described:
    """What is known of a split without a look at its images."""

    data: Folder  # how its files are to be read
    place: Place  # where the data set lies
    name: str  # of the split
    metadata: Metadata  # what describes it; without images where that cannot be read
    problems: Problems  # with the split

    @property
    def mask_rule(self) -> MaskRule:
        """Which pixels of mask files are the object; the masks of some layouts are known."""
        data, of_layout = self.data, LAYOUTS[self.place.layout].mask_threshold
        threshold = of_layout if data.mask_threshold == -1 else data.mask_threshold
        return MaskRule(str(data.mask_is), threshold, data.mask_undecided)

    def usable(self) -> Bool[np.ndarray, " n"]:
        """Which images have no error."""
        return self.metadata.without(self.problems.images())

    def path(self, row: int) -> pathlib.Path:
        """Of an image's file."""
        return self.place.images / self.metadata.paths[row]

    def masks(
        self, row: int
    ) -> tuple[Bool[np.ndarray, "mask_h mask_w"] | None, Bool[np.ndarray, "ignore_h ignore_w"] | None]:
        """The union of an image's masks, and of what is undecided; None where it has none. Raises InputError: a file
        cannot be decoded, or masks of the image differ in size.
        """
        masks, found, undecided = self.metadata.masks_of(row), None, None
        for mask in masks.instances:
            name, part, rim = self._planes(row, mask, self.mask_rule)
            found, undecided = _united(found, part, name), _united(undecided, rim, name)
        for mask in masks.ignore:
            name, part, _ = self._planes(row, mask, MaskRule())
            undecided = _united(undecided, part, name)
        return found, undecided

    def _planes(self, row: int, mask: str | Region, rule: MaskRule) -> tuple[str, Plane, Plane | None]:
        """A mask's name, where its object is, and where it is undecided, if it tells that."""
        if isinstance(mask, Region):
            return self.metadata.image_ids[row], mask.mask(), None
        path = self.place.images / mask
        file = decode_mask(read_bytes(path), str(path), rule)
        return str(path), file.object, file.undecided


def _united(planes: Plane | None, plane: Plane | None, name: str) -> Plane | None:
    """The union of planes with one more, that of a mask's name, as far as there are any."""
    if planes is None or plane is None:
        return plane if planes is None else planes
    if planes.shape != plane.shape:
        raise InputError(f"{name}: its size is not that of the other masks of its image")
    return planes | plane


class FolderSource:
    """The records of one split of a data set in a folder; `described` is what they are made of."""

    def __init__(self, *, split: str, root: str | os.PathLike[str], **settings: Any):
        """Read and check what is known of the split, and that its files are there; settings are those of `Folder`.

        Raises:
          InputError: for whatever is missing or contradicts itself, with the file's name.
        """
        data = Folder(root=os.fspath(root), **settings)
        place = data.place()
        found = data.describe(place, split, Problems())
        said = found.metadata
        if data.num_classes == 0 and said.num_classes > _CLASSES_PER_IMAGE * len(said.image_ids):
            text = f"its labels give {said.num_classes} classes for {len(said.image_ids)} images of {split}"
            raise InputError(f"{place.metadata}: {text}; if that is right, give data.num_classes")
        left_out = found.problems.settle(data.on_error, root)
        keep = said.without(left_out)
        if not keep.any():
            first = next(iter(left_out.values()), "")
            raise InputError(f"{place.root}: every image of split {split} has an error: {first}")
        self._metadata = said.select(keep)
        self.described = dataclasses.replace(found, metadata=self._metadata)
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
        """The record at a position, in the order of the data set. Raises InputError: when a file cannot be decoded, or
        is not as the data set says: other bytes, another size, boxes outside the image, masks of several sizes.
        """
        known, path = self._metadata, self.described.path(index)
        data, settings = read_bytes(path), self.described.data
        trusted = bool(known.checksums and known.checksums[index] and known.check_content(index, path, data))
        image = decode_image(data, str(path), upright=settings.upright, trusted=trusted, window=settings.window)
        known.check_size(index, path, (image.shape[1], image.shape[0]))
        boxes = known.boxes_of(index)
        mask, ignore = self.described.masks(index)
        boxes = boxes if boxes is not None and len(boxes) else None
        return Record(image, int(known.labels[index]), known.image_ids[index], boxes, mask, ignore)
