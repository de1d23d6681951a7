"""A data set in a folder, whatever its layout: images, and what text files, tables or folders say of them.

In: the folder. Out: records. All that can be checked without decoding an image is checked when the source is made.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.component import known
from fcam_jax.data.images import decode_image, read_bytes, read_mask
from fcam_jax.data.layouts.boxes import BOX_RULE, FORMS, fitting
from fcam_jax.data.layouts.metadata import UNLOCALIZED, Masks, Metadata, Place
from fcam_jax.data.layouts.paths import absent
from fcam_jax.data.layouts.problems import ON_ERROR, Problems
from fcam_jax.data.layouts.regions import Region
from fcam_jax.data.layouts.registry import locate, read, splits
from fcam_jax.data.source import Record, fingerprint, needs_root
from fcam_jax.errors import InputError

# With more, where the number of classes is left to the data, a label is taken to be mistyped.
_CLASSES_PER_IMAGE = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
    """A data set in a folder of the user's.

    Attributes:
      root: the data set's folder.
      layout: one of `layouts.registry.LAYOUTS`; empty: the one that the folder has.
      num_classes: number of classes; 0: as many as the data set has.
      upright: turn images as their EXIF orientation says; sizes and boxes are then those of upright images.
      on_error: "fail" raises the first error, "skip" leaves images with an error out.
      boxes: what the numbers of a box are: "corners", "xywh" or "centre"; empty: what the layout says.
      unlocalized: val and test images with neither box nor mask, while others have: "fail", or "allow" them to count
        for classification alone.
    """

    root: str = ""
    layout: str = ""
    num_classes: int = 0
    upright: bool = False
    on_error: str = "fail"
    boxes: str = ""
    unlocalized: str = "fail"

    def __post_init__(self) -> None:
        needs_root(self.root)
        known(self, on_error=ON_ERROR, boxes=("", *FORMS), unlocalized=UNLOCALIZED)

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


class FolderSource:
    """The records of one split of a data set in a folder."""

    def __init__(
        self,
        *,
        split: str,
        root: str | os.PathLike[str],
        num_classes: int = 0,
        layout: str = "",
        images: str | os.PathLike[str] | None = None,
        metadata: str | os.PathLike[str] | None = None,
        upright: bool = False,
        on_error: str = "fail",
        boxes: str = "",
        unlocalized: str = "fail",
    ):
        """Read and check what is known of the split, and that its files are there; arguments as in `Folder`.

        Args:
          images: folder that the paths of images start from; see `layouts.registry.locate`, as for `metadata`.
          metadata: folder that holds what describes the images.

        Raises:
          InputError: for whatever is missing or contradicts itself, with the file's name.
        """
        problems = Problems()
        place = locate(root, layout, images, metadata, boxes=boxes, unlocalized=unlocalized, upright=upright)
        said = read(place, split, num_classes, problems)
        if num_classes == 0 and said.num_classes > _CLASSES_PER_IMAGE * len(said.image_ids):
            text = f"its labels give {said.num_classes} classes for {len(said.image_ids)} images of {split}"
            raise InputError(f"{place.metadata}: {text}; if that is right, give data.num_classes")
        report_absent(place, said, problems)
        left_out = problems.settle(on_error, root)
        keep = np.array([image_id not in left_out for image_id in said.image_ids], bool)
        if not keep.any():
            first = next(iter(left_out.values()), "")
            raise InputError(f"{place.root}: every image of split {split} has an error: {first}")
        self._metadata = said.select(keep)
        self._images = place.images
        self._upright = upright
        self.num_classes = said.num_classes
        self.class_names = said.class_names
        self.truth = self._metadata.truth() if split != "train" or self._metadata.localized().all() else ()
        self.left_out = tuple(left_out.values())
        frame = " upright" if upright else ""  # what is kept of one kind of pixels is not for the other
        self.fingerprint = fingerprint(self._metadata.image_ids, self._metadata.labels.tolist()) + frame

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
        return read_record(self._metadata, self._images, index, self._upright)


def read_record(metadata: Metadata, images: pathlib.Path, index: int, upright: bool) -> Record:
    """Decode an image, at a position in the split, and its masks; their paths start from a folder of images.

    Raises:
      InputError: when a file cannot be decoded, or is not as the metadata say: other bytes, another size, boxes outside
        the image, masks of several sizes.
    """
    path = images / metadata.paths[index]
    data = read_bytes(path)
    published = check_content(metadata, index, path, data) if metadata.checksums and metadata.checksums[index] else ""
    image = decode_image(data, str(path), upright=upright, trusted=bool(published))
    check_size(metadata, index, path, (image.shape[1], image.shape[0]))
    boxes = metadata.boxes[index] if metadata.boxes is not None and len(metadata.boxes[index]) else None
    mask, ignore = read_masks(metadata, images, index)
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
    metadata: Metadata, images: pathlib.Path, index: int
) -> tuple[Bool[np.ndarray, "mask_h mask_w"] | None, Bool[np.ndarray, "ignore_h ignore_w"] | None]:
    """The union of an image's masks, and its ignore mask; None where it has none.

    Raises:
      InputError: a file cannot be decoded, or masks of the image differ in size.
    """
    masks, name = metadata.masks[index] if metadata.masks is not None else Masks(), metadata.image_ids[index]
    return _united(masks.instances, images, name), _united(masks.ignore, images, name)


def report_absent(place: Place, metadata: Metadata, problems: Problems) -> None:
    """An error for every image and mask that is not there, of images without another error: paths may be why."""
    told, files = problems.images(), metadata.files()
    missing = absent(place.images, (name for image_id, name in files if image_id not in told))
    for image_id, name in files if missing else ():
        if name in missing:
            problems.error(place.images / name, "no such file", image_id=image_id)


def _united(masks: Sequence[str | Region], images: pathlib.Path, name: str) -> Bool[np.ndarray, "_ _"] | None:
    united = None
    for mask in masks:
        part = read_mask(images / mask) if isinstance(mask, str) else mask.mask()
        if united is not None and united.shape != part.shape:
            file = images / mask if isinstance(mask, str) else name
            raise InputError(f"{file}: its size is not that of the other masks of its image")
        united = part if united is None else united | part
    return united
