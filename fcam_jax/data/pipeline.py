"""From the images of a split to batches, with Grain: images are decoded and resized in threads, ahead of their use.

In: `LoadedImages`. Out: an endless, exactly resumable stream of training batches, or the evaluation batches of a split,
every image once. Several processes share a data set without overlap, each with its part of every batch.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np
from jaxtyping import Float

from fcam_jax.data import transforms
from fcam_jax.data.annotations import crop_annotation, object_map
from fcam_jax.data.loaded import Loaded, LoadedImages
from fcam_jax.errors import InputError
from fcam_jax.types import Annotation, Batch

# Position in the split of the image at a place of the endless stream of training images, from 0. It may depend on
# nothing else, so that a run goes on where it stood, with any number of processes.
Order = Callable[[int], int]

READ_THREADS = min(16, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class _Example:
    """One place of a batch: an image, or None for padding, and the part of its whole image that it shows."""

    loaded: Loaded | None
    crop: tuple[float, float, float, float] | None = None


class TrainingStream:
    """An endless stream of training batches of one process; the images of all epochs follow each other without a gap.

    Its place is the number of images that all processes have taken, so another number of processes goes on from it
    with the very next image.
    """

    def __init__(
        self,
        examples: grain.MapDataset[_Example],
        *,
        batch_size: int,
        cams: Float[np.ndarray, "n h w"] | None,
        objects: bool,
        process_index: int,
        process_count: int,
    ):
        """Start at the first image.

        Args:
          examples: all that there will ever be, in their order.
          batch_size: images of a batch over all processes.
          cams: a CAM of every image, by position in the split.
          objects: whether batches say where objects are.
          process_index: which process this is.
          process_count: number of processes.

        Raises:
          InputError: for a batch that the processes cannot share.
        """
        self._examples, self._cams, self._batch_size, self._objects = examples, cams, batch_size, objects
        self._process_index, self._process_count = process_index, process_count
        self._per_process = _per_process(batch_size, process_count)
        self._go_to(0)

    def __iter__(self) -> "TrainingStream":
        return self

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
          InputError: for an image that cannot be used; the stream stays where it is.
        """
        return self.with_annotations()[0]

    def with_annotations(self) -> tuple[Batch, list[Annotation]]:
        """The next batch with the ground truth of its images, cut out and mirrored as they are, where that was loaded.

        Raises:
          InputError: for an image that cannot be used; the stream stays where it is.
        """
        try:
            examples = next(self._batches)
        except InputError:
            self._go_to(self._taken)
            raise
        self._taken += self._batch_size
        batch = _batch([example.loaded for example in examples], _side(examples))
        if self._cams is not None:
            crops = np.array([example.crop for example in examples], np.float32)
            batch = dataclasses.replace(batch, cams=self._cams[batch.index], crop=crops)
        annotations = _annotations(examples)
        if self._objects:
            maps = [object_map(annotation, _side(examples)) for annotation in annotations]
            batch = dataclasses.replace(batch, objects=np.stack(maps))
        return batch, annotations

    def get_state(self) -> dict[str, Any]:
        """The place in the stream, as JSON data: "images", which all processes together have taken."""
        return {"images": self._taken}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a place in the stream.

        Raises:
          InputError: for a place that another version of this program has noted.
        """
        if state.keys() != {"images"}:
            raise InputError(
                "the checkpoint notes its place in the data as another version of this program does; use a new workdir"
            )
        self._go_to(state["images"])

    def _go_to(self, taken: int) -> None:
        self._taken = taken
        mine = self._examples.slice(slice(taken + self._process_index, None, self._process_count))
        examples = mine.to_iter_dataset(_read_options(self._per_process))
        self._batches = iter(examples.batch(self._per_process, batch_fn=list))


def train_batches(
    images: LoadedImages,
    *,
    batch_size: int,
    crop: int,
    seed: int,
    cams: Float[np.ndarray, "n h w"] | None = None,
    objects: bool = False,
    order: Order | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> TrainingStream:
    """An endless stream of training batches, in a new order every epoch or in one that is given.

    The epochs follow each other without a gap, so a batch may hold the end of one and the start of the next. Order and
    random transforms depend on the seed and the place in the stream alone: not on threads, batch size or processes.
    The place of an image that is left out is taken by the next one in the split.

    Args:
      images: the training images, resized to what crops are cut out of.
      batch_size: images of a batch over all processes.
      crop: side of the images in the batch, in pixels.
      seed: of order, crops and flips; not negative.
      cams: a CAM of every image, by position, to travel with it; see `Batch.cams`.
      objects: whether `Batch.objects` says where the objects are, of images that were loaded with their ground truth.
      order: of the images; None to shuffle them every epoch.
      process_index: which process this is.
      process_count: number of processes.

    Raises:
      InputError: for sizes that do not fit together; from `next`, for an image that cannot be used.
    """
    if not len(images):
        raise InputError("the training split holds no images")
    if crop > images.side:
        raise InputError(f"a crop of {crop} pixels does not fit into images resized to {images.side}")
    positions = grain.MapDataset.range(len(images)).seed(seed)
    if order is None:
        positions = positions.shuffle().repeat()
    else:
        positions = positions.repeat().map_with_index(lambda place, _: order(place))
    examples = positions.map(images.usable).random_map(functools.partial(_augment, crop))
    return TrainingStream(
        examples,
        batch_size=batch_size,
        cams=cams,
        objects=objects,
        process_index=process_index,
        process_count=process_count,
    )


def evaluation_batches(
    images: LoadedImages,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[Batch, list[Annotation]]]:
    """The images of a split in order, each exactly once over all processes.

    The last batch is padded with black images that are marked as not valid, and so is the end of a batch out of which
    an image is left. Every process gets the same number of batches; where its images end early, whole batches are
    padding.

    Args:
      images: with their ground truth.
      batch_size: images of a batch over all processes.
      process_index: which process this is.
      process_count: number of processes.

    Returns:
      Batches, each with the annotations of its valid images in the same order.

    Raises:
      InputError: for a batch that the processes cannot share; from `next`, for an image that cannot be used.
    """
    per_process = _per_process(batch_size, process_count)
    positions = range(len(images))[process_index::process_count]
    groups = _in_order(images, positions, per_process, -(-len(images) // batch_size))
    return ((_batch([one.loaded for one in group], images.side), _annotations(group)) for group in groups)


def whole_batches(images: LoadedImages, positions: Sequence[int], *, batch_size: int) -> Iterator[Batch]:
    """The images at some positions of a split, whole and in this order; batches are padded as for evaluation.

    Args:
      images: the images.
      positions: of those that are wanted; `Batch.index` tells them.
      batch_size: images of a batch.

    Raises:
      InputError: from `next`, for an image that cannot be used.
    """
    groups = _in_order(images, positions, batch_size, -(-len(positions) // batch_size))
    return (_batch([one.loaded for one in group], images.side) for group in groups)


def _in_order(
    images: LoadedImages, positions: Sequence[int], batch_size: int, batches: int
) -> Iterator[list[_Example]]:
    """The images at some positions in groups of equal size; what is missing to that is padding, at the end."""

    def example(place: int) -> _Example:
        return _Example(images(positions[place]) if place < len(positions) else None)

    examples = grain.MapDataset.range(batches * batch_size).map(example).to_iter_dataset(_read_options(batch_size))
    return iter(examples.batch(batch_size, batch_fn=lambda group: sorted(group, key=lambda one: one.loaded is None)))


def _augment(side: int, loaded: Loaded, rng: np.random.Generator) -> _Example:
    whole = loaded.image.shape[0]
    place = transforms.random_crop(whole, whole, side, rng)
    shares = (place.top / whole, place.left / whole, side / whole, float(place.mirrored))
    annotation = loaded.annotation and crop_annotation(loaded.annotation, side, place)
    image = transforms.cut_out(loaded.image, side, place)
    return _Example(dataclasses.replace(loaded, image=image, annotation=annotation), shares)


def _batch(group: Sequence[Loaded | None], side: int) -> Batch:
    blank = Loaded(np.zeros((side, side, 3), np.uint8), label=0, index=0)
    filled = [loaded or blank for loaded in group]
    return Batch(
        images=np.stack([loaded.image for loaded in filled]),
        labels=np.array([loaded.label for loaded in filled], np.int32),
        index=np.array([loaded.index for loaded in filled], np.int32),
        valid=np.array([loaded is not None for loaded in group], np.float32),
    )


def _annotations(examples: Sequence[_Example]) -> list[Annotation]:
    return [one.loaded.annotation for one in examples if one.loaded is not None and one.loaded.annotation is not None]


def _side(examples: Sequence[_Example]) -> int:
    return next(one.loaded.image.shape[0] for one in examples if one.loaded is not None)


def _per_process(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise InputError(f"a batch of {batch_size} images cannot be shared equally by {process_count} process(es)")
    return batch_size // process_count


def _read_options(per_process: int) -> grain.ReadOptions:
    """Two batches ahead; the buffer counts images, so that the threads share the work on one batch."""
    return grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=max(2 * per_process, READ_THREADS))
