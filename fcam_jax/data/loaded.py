"""The images of a split as the pipeline wants them: decoded, resized, and kept in memory where all of them fit."""

import dataclasses
import functools
import logging
import threading

import numpy as np

from fcam_jax.data import transforms
from fcam_jax.data.source import Source
from fcam_jax.data.transforms import annotate
from fcam_jax.errors import InputError
from fcam_jax.types import Annotation, Image

logger = logging.getLogger(__name__)

_TOLD = 5  # images that are left out and named in the log; the others are only counted there


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An image of a split."""

    image: Image  # resized, and a crop of it where it is for training
    label: int  # its class, from 0
    index: int  # its position in the split
    annotation: Annotation | None = None  # ground truth in the frame of the image; None where it was not asked for
    crop: tuple[float, float, float, float] | None = None  # the part of its whole image that it shows; see `Batch.crop`
    row: int | None = None  # its number among the fixed crops of all images, where it is one


class Memory:
    """How much of it images may still take; several splits share it."""

    def __init__(self, limit: int):
        self._free = limit  # bytes

    def reserve(self, needed: int) -> bool:
        """Take so many bytes where there are as many."""
        fits = needed <= self._free
        self._free -= needed if fits else 0
        return fits


class LeftOut:
    """Images that could not be used and were left out, each with what was wrong. Threads may share it."""

    def __init__(self) -> None:
        self._reasons: dict[str, None] = {}
        self._lock = threading.Lock()

    def add(self, reason: str) -> None:
        """Note an image by a line that names it; the first few are logged."""
        with self._lock:
            if reason in self._reasons:
                return
            self._reasons[reason] = None
            count = len(self._reasons)
        if count <= _TOLD:
            logger.warning("left out: %s", reason)
        elif count == _TOLD + 1:
            logger.warning("more images are left out than are named here")

    def lines(self) -> list[str]:
        """What was wrong, a line for each image."""
        with self._lock:
            return sorted(self._reasons)


class LoadedImages:
    """The images of a split at one size; see `__call__`. Threads may share it."""

    def __init__(
        self,
        source: Source,  # the images
        side: int,  # images are brought to a square of this side, in pixels
        *,
        annotated: bool = False,  # whether ground truth comes with them
        # images are decoded once and kept where all of them fit into it; without it none is
        memory: Memory | None = None,
        left_out: LeftOut | None = None,  # takes note of images that cannot be used; without it they raise
        name: str = "images",  # what the log calls the split
    ):
        self.source, self.side = source, side
        self._annotated, self._left_out = annotated, left_out
        self._load = self._read
        # A mask and an ignore mask take a byte a pixel each, at most.
        needed = len(source) * side * side * (5 if annotated else 3)
        if memory is not None:
            how = "decoded anew every time: data.cache_gigabytes does not hold them"
            if memory.reserve(needed):
                self._load, how = functools.cache(self._read), "kept in memory once decoded"
            size = needed / 2**30
            logger.info("%s: %d of %d x %d pixels, %.2f GiB, %s", name, len(source), side, side, size, how)

    def __len__(self) -> int:
        """The number of images, those included that cannot be used."""
        return len(self.source)

    def __call__(self, index: int) -> Loaded | None:
        """The image at a position of the split; None where it cannot be used and is left out. Raises InputError: it
        cannot be used, and none is to be left out.
        """
        return self._load(index)

    def usable(self, index: int) -> Loaded:
        """The image at a position of the split or, where that is left out, the next one that is not. Raises InputError:
        as `__call__`; all images are left out.
        """
        for position in range(index, index + len(self)):
            found = self(position % len(self))
            if found is not None:
                return found
        first = self._left_out.lines()[0] if self._left_out else ""
        raise InputError(f"none of the {len(self)} training images can be used; the first: {first}")

    def _read(self, index: int) -> Loaded | None:
        try:
            record = self.source[index]
        except InputError as error:
            if self._left_out is None:
                raise
            self._left_out.add(str(error))
            return None
        if (kind := record.image.dtype) != np.uint8:  # of a user's source
            raise InputError(f"image {record.image_id} has {kind} pixels; a source gives uint8 in [0, 255]")
        image = transforms.resize(record.image, self.side)
        return Loaded(image, record.label, index, annotate(record, self.side) if self._annotated else None)
