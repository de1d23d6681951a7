"""From a source to batches, with Grain: images are decoded and resized in threads, ahead of their use.

In: a `Source`. Out: an endless, exactly resumable stream of training batches, or the evaluation batches of a split,
every image once. Several processes share a data set without overlap, each with its part of every batch.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np
from jaxtyping import Float

from fcam_jax.data import transforms
from fcam_jax.data.annotations import annotate
from fcam_jax.data.source import Source
from fcam_jax.errors import InputError
from fcam_jax.types import Annotation, Batch, Image

READ_THREADS = min(16, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class _Example:
    """One place of a batch; a place without an annotation and with `valid` 0 is padding."""

    image: Image
    label: int
    index: int
    valid: float = 1.0
    annotation: Annotation | None = None
    crop: tuple[float, float, float, float] | None = None


def train_batches(
    source: Source,
    *,
    batch_size: int,
    resize: int,
    crop: int,
    seed: int,
    cache_bytes: int = 0,
    cams: Float[np.ndarray, "n h w"] | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator[Batch]:
    """An endless stream of training batches, in a new order every epoch.

    The epochs follow each other without a gap, so a batch may hold the end of one and the start of the next. Order and
    random transforms depend on the seed and the place in the stream alone: not on threads, batch size or processes.
    `get_state` and `set_state` of the stream give and take its place as JSON data; the same batches follow.

    Args:
      source: the training images.
      batch_size: images of a batch over all processes.
      resize: side to which images are brought before cropping, in pixels.
      crop: side of the images in the batch, in pixels.
      seed: of order, crops and flips; not negative.
      cache_bytes: resized images are kept in memory where all of them fit into this.
      cams: a CAM of every image, by position, to travel with it; see `Batch.cams`.
      process_index: which process this is.
      process_count: number of processes.

    Raises:
      InputError: for sizes that do not fit together; from `next`, for an image that cannot be used.
    """
    if not len(source):
        raise InputError("the training split holds no images")
    if crop > resize:
        raise InputError(f"a crop of {crop} pixels does not fit into images resized to {resize}")
    per_process = _per_process(batch_size, process_count)
    load: Callable[[int], _Example] = functools.partial(_load, source, resize)
    if len(source) * resize * resize * 3 <= cache_bytes:
        load = functools.cache(load)
    examples = (
        grain.MapDataset.range(len(source))
        .seed(seed)
        .shuffle()
        .repeat()
        .map(load)
        .random_map(functools.partial(_augment, crop))
        .slice(slice(process_index, None, process_count))
    )
    return iter(
        examples.to_iter_dataset(_read_options(per_process)).batch(
            per_process, batch_fn=functools.partial(_train_batch, cams)
        )
    )


def evaluation_batches(
    source: Source,
    *,
    batch_size: int,
    size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[Batch, list[Annotation]]]:
    """The images of a split in order, each exactly once over all processes.

    The last batch is padded with black images that are marked as not valid. Every process gets the same number of
    batches; where its images end early, whole batches are padding.

    Args:
      source: the images.
      batch_size: images of a batch over all processes.
      size: side of the images in the batch and of the annotations' frame, in pixels.
      process_index: which process this is.
      process_count: number of processes.

    Returns:
      Batches, each with the annotations of its valid images in the same order.

    Raises:
      InputError: for a batch that the processes cannot share; from `next`, for an image that cannot be used.
    """
    per_process = _per_process(batch_size, process_count)
    batches = -(-len(source) // batch_size)
    positions = range(len(source))[process_index::process_count]

    def example(place: int) -> _Example:
        if place >= len(positions):
            return _padding(size)
        return _load_annotated(source, size, positions[place])

    examples = grain.MapDataset.range(batches * per_process).map(example)
    return iter(examples.to_iter_dataset(_read_options(per_process)).batch(per_process, batch_fn=_annotated_batch))


def whole_batches(source: Source, positions: Sequence[int], *, batch_size: int, size: int) -> Iterator[Batch]:
    """The images at some positions of a split, whole and in this order; the last batch is padded with black images.

    Args:
      source: the images.
      positions: of those that are wanted; `Batch.index` tells them.
      batch_size: images of a batch.
      size: side of the images in the batch in pixels.

    Raises:
      InputError: from `next`, for an image that cannot be used.
    """

    def example(place: int) -> _Example:
        return _load(source, size, positions[place]) if place < len(positions) else _padding(size)

    examples = grain.MapDataset.range(-(-len(positions) // batch_size) * batch_size).map(example)
    return iter(examples.to_iter_dataset(_read_options(batch_size)).batch(batch_size, batch_fn=_batch))


def _padding(side: int) -> _Example:
    return _Example(np.zeros((side, side, 3), np.uint8), label=0, index=0, valid=0.0)


def _load(source: Source, side: int, index: int) -> _Example:
    record = source[index]
    return _Example(transforms.resize(record.image, side), record.label, index)


def _load_annotated(source: Source, side: int, index: int) -> _Example:
    record = source[index]
    return _Example(transforms.resize(record.image, side), record.label, index, annotation=annotate(record, side))


def _augment(crop: int, example: _Example, rng: np.random.Generator) -> _Example:
    whole = example.image.shape[0]
    place = transforms.random_crop(whole, whole, crop, rng)
    shares = (place.top / whole, place.left / whole, crop / whole, float(place.mirrored))
    return dataclasses.replace(example, image=transforms.cut_out(example.image, crop, place), crop=shares)


def _train_batch(cams: Float[np.ndarray, "n h w"] | None, examples: Sequence[_Example]) -> Batch:
    batch = _batch(examples)
    if cams is None:
        return batch
    crops = np.array([example.crop for example in examples], np.float32)
    return dataclasses.replace(batch, cams=cams[batch.index], crop=crops)


def _batch(examples: Sequence[_Example]) -> Batch:
    return Batch(
        images=np.stack([example.image for example in examples]),
        labels=np.array([example.label for example in examples], np.int32),
        index=np.array([example.index for example in examples], np.int32),
        valid=np.array([example.valid for example in examples], np.float32),
    )


def _annotated_batch(examples: Sequence[_Example]) -> tuple[Batch, list[Annotation]]:
    return _batch(examples), [example.annotation for example in examples if example.annotation is not None]


def _per_process(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise InputError(f"a batch of {batch_size} images cannot be shared equally by {process_count} process(es)")
    return batch_size // process_count


def _read_options(per_process: int) -> grain.ReadOptions:
    """Two batches ahead; the buffer counts images, so that the threads share the work on one batch."""
    return grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=max(2 * per_process, READ_THREADS))
