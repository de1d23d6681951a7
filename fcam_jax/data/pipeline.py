"""From the images of a split to batches, with Grain: images are decoded and resized in threads, ahead of their use.

Several processes share a data set without overlap, each with its part of every batch.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np
from jaxtyping import Int

from fcam_jax.data.loaded import Loaded, LoadedImages
from fcam_jax.data.transforms import crop_annotation, cut_out, object_map, random_crop
from fcam_jax.errors import InputError
from fcam_jax.types import Annotation, Batch

# Position in the split of the image at a place of the endless stream of training images, from 0. It may depend on
# nothing else, so that a run goes on where it stood, with any number of processes.
Order = Callable[[int], int]

# From the numbers of some images or crops to what was computed of them before.
Known = Callable[[Int[np.ndarray, " b"]], Any]

READ_THREADS = min(16, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class FixedCrops:
    """A few crops of every image, which are always the same ones.

    Attributes:
      count: crops of an image.
      seed: of their places and flips.
    """

    count: int
    seed: int

    def crop(self, loaded: Loaded, number: int, side: int) -> Loaded:
        """The crop of an image that has this number in [0, count)."""
        rng = np.random.default_rng((self.seed, loaded.index, number))
        return dataclasses.replace(_cropped(loaded, side, rng), row=loaded.index * self.count + number)


class TrainingStream:
    """An endless stream of training batches of one process, in a new order every epoch or in one that is given.

    The epochs follow each other without a gap, so a batch may hold the end of one and the start of the next. Order and
    random transforms depend on the seed and the place in the stream alone: not on threads, batch size or processes.
    That place is the number of images that all processes have taken, so another number of processes goes on from it
    with the very next image. The place of an image that is left out is taken by the next one in the split.

    Raises:
      InputError: for sizes that do not fit together; from `next`, for an image that cannot be used.
    """

    def __init__(
        self,
        images: LoadedImages,  # the training images, resized to what crops are cut out of
        *,
        batch_size: int,  # images of a batch over all processes
        crop: int,  # side of the images in the batch, in pixels
        seed: int,  # of order, crops and flips; not negative
        cams: Known | None = None,  # `Batch.cams` of images by their positions
        fixed: FixedCrops | None = None,  # what crops are chosen among; None for a new one every time
        features: Known | None = None,  # `Batch.features` of fixed crops by their numbers
        # whether `Batch.objects` says where the objects are, of images loaded with their ground truth
        objects: bool = False,
        order: Order | None = None,  # of the images; None to shuffle them every epoch
        process_index: int = 0,  # which process this is
        process_count: int = 1,  # number of processes
    ):
        if not len(images):
            raise InputError("the training split holds no images")
        if crop > images.side:
            raise InputError(f"a crop of {crop} pixels does not fit into images resized to {images.side}")
        places = grain.MapDataset.range(len(images)).seed(seed)
        positions = places.repeat().map_with_index(lambda at, _: order(at)) if order else places.shuffle().repeat()

        def cropped(loaded: Loaded, rng: np.random.Generator) -> Loaded:
            return fixed.crop(loaded, int(rng.integers(fixed.count)), crop) if fixed else _cropped(loaded, crop, rng)

        self._examples = positions.map(images.usable).random_map(cropped)
        self._features = features
        self._cams, self._objects, self._crop, self._batch_size = cams, objects, crop, batch_size
        self._process_index, self._process_count = process_index, process_count
        self._per_process = _per_process(batch_size, process_count)
        self._go_to(0)

    def __iter__(self) -> "TrainingStream":
        return self

    def __next__(self) -> Batch:
        return self.with_annotations()[0]

    def with_annotations(self) -> tuple[Batch, list[Annotation]]:
        """The next batch with the ground truth of its images, cut out and mirrored as they are, where that was loaded.
        Raises InputError: for an image that cannot be used; the stream stays where it is.
        """
        try:
            examples = next(self._batches)
        except InputError:
            self._go_to(self._taken)
            raise
        self._taken += self._batch_size
        batch, annotations = _batch(examples)
        if self._cams is not None:
            crops = np.array([example.crop for example in examples], np.float32)
            batch = dataclasses.replace(batch, cams=self._cams(np.asarray(batch.index)), crop=crops)
        if self._features is not None:
            rows = np.array([example.row for example in examples])
            batch = dataclasses.replace(batch, features=self._features(rows))
        if self._objects:
            maps = np.stack([object_map(annotation, self._crop) for annotation in annotations])
            batch = dataclasses.replace(batch, objects=maps)
        return batch, annotations

    def get_state(self) -> dict[str, Any]:
        """The place in the stream, as JSON data: "images", which all processes together have taken."""
        return {"images": self._taken}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a place in the stream. Raises InputError: another version of this program has noted it."""
        if state.keys() != {"images"}:
            text = "the checkpoint notes its place in the data as another version of this program does"
            raise InputError(f"{text}; use a new workdir")
        self._go_to(state["images"])

    def _go_to(self, taken: int) -> None:
        self._taken = taken
        mine = self._examples.slice(slice(taken + self._process_index, None, self._process_count))
        examples = mine.to_iter_dataset(_read_options(self._per_process))
        self._batches = iter(examples.batch(self._per_process, batch_fn=list))


def evaluation_batches(
    images: LoadedImages, *, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[tuple[Batch, list[Annotation]]]:
    """The images of a split in order, each exactly once over all processes, with the annotations of the valid ones.

    The last batch is padded with black images that are marked as not valid, and so is the end of a batch out of which
    an image is left. Every process gets the same number of batches; where its images end early, whole batches are
    padding. `batch_size` counts the images of a batch over all processes.

    Raises:
      InputError: for a batch that the processes cannot share; from `next`, for an image that cannot be used.
    """
    per_process = _per_process(batch_size, process_count)
    positions = range(len(images))[process_index::process_count]
    count = -(-len(images) // batch_size)
    return (_padded(there, per_process, images.side) for there in _in_order(images, positions, per_process, count))


def whole_batches(
    images: LoadedImages, positions: Sequence[int], *, batch_size: int
) -> Iterator[tuple[Int[np.ndarray, " n"], Batch]]:
    """The images at some positions of a split, whole and in this order, and the positions of those that can be used.

    Batches are padded as for evaluation. Raises InputError: from `next`, for an image that cannot be used.
    """
    for there in _in_order(images, positions, batch_size, -(-len(positions) // batch_size)):
        yield np.array([loaded.index for loaded in there], np.int64), _padded(there, batch_size, images.side)[0]


def crop_batches(
    images: LoadedImages, rows: Sequence[int], *, batch_size: int, fixed: FixedCrops, side: int
) -> Iterator[tuple[Int[np.ndarray, " n"], Batch]]:
    """As `whole_batches`, the fixed crops of some numbers; each image has `fixed.count`, one after the other."""

    def crop(row: int) -> Loaded | None:
        loaded = images(row // fixed.count)
        return loaded and fixed.crop(loaded, row % fixed.count, side)

    for there in _in_order(crop, rows, batch_size, -(-len(rows) // batch_size)):
        yield np.array([loaded.row for loaded in there], np.int64), _padded(there, batch_size, side)[0]


def _in_order(
    images: Callable[[int], Loaded | None], positions: Sequence[int], batch_size: int, batches: int
) -> Iterator[list[Loaded]]:
    """The images at some positions, so many or, where some are left out and at the end, fewer at a time."""

    def example(place: int) -> list[Loaded]:
        loaded = images(positions[place]) if place < len(positions) else None
        return [] if loaded is None else [loaded]

    examples = grain.MapDataset.range(batches * batch_size).map(example).to_iter_dataset(_read_options(batch_size))
    for group in iter(examples.batch(batch_size, batch_fn=list)):
        yield [loaded for some in group for loaded in some]


def _padded(there: Sequence[Loaded], batch_size: int, side: int) -> tuple[Batch, list[Annotation]]:
    """A batch that black images make as large as it should be."""
    blank = Loaded(np.zeros((side, side, 3), np.uint8), label=0, index=0)
    return _batch([*there, *[blank] * (batch_size - len(there))], len(there))


def _cropped(loaded: Loaded, side: int, rng: np.random.Generator) -> Loaded:
    whole = loaded.image.shape[0]
    crop = random_crop(whole, whole, side, rng)
    return dataclasses.replace(
        loaded,
        image=cut_out(loaded.image, side, crop),
        annotation=loaded.annotation and crop_annotation(loaded.annotation, side, crop),
        crop=(crop.top / whole, crop.left / whole, side / whole, float(crop.mirrored)),
    )


def _batch(group: Sequence[Loaded], valid: int | None = None) -> tuple[Batch, list[Annotation]]:
    """A batch, of which so many first images are no padding, and the annotations that there are."""
    batch = Batch(
        images=np.stack([loaded.image for loaded in group]),
        labels=np.array([loaded.label for loaded in group], np.int32),
        index=np.array([loaded.index for loaded in group], np.int32),
        valid=(np.arange(len(group)) < (len(group) if valid is None else valid)).astype(np.float32),
    )
    return batch, [loaded.annotation for loaded in group if loaded.annotation is not None]


def _per_process(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise InputError(f"a batch of {batch_size} images cannot be shared equally by {process_count} process(es)")
    return batch_size // process_count


def _read_options(per_process: int) -> grain.ReadOptions:
    """Two batches ahead; the buffer counts images, so that the threads share the work on one batch."""
    return grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=max(2 * per_process, READ_THREADS))
