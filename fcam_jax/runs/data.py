"""The data of a run: its splits as batches, and what is known of them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Int

from fcam_jax.data.augment import Augment
from fcam_jax.data.pipeline import Known
from fcam_jax.data.source import Source
from fcam_jax.training.feed import DataStream
from fcam_jax.types import Annotation, Batch

EvaluationBatches = Iterator[tuple[Batch, list[Annotation]]]


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
      sources: records of the splits that there are; in the place of "train" what is trained on, which may be less.
      batch_size: images of a training step, over all devices.
      augment: changes the images that the network is trained on; None where it sees them as they are.
      stream: training batches from a seed on, with what is kept of the images if given.
      sample: a training batch of so many images from a seed, with its ground truth, to be looked at.
      kept: batches of the training images, or of their fixed crops, of some numbers, to compute what is kept of them.
      evaluated: the batches of a split, each image once; those of val are kept in memory for the next time.
      left_out: what was wrong with each image that was left out so far, a line each.
      summary: lines on the splits, and on what a look at some of their images finds.
    """

    sources: dict[str, Source]
    batch_size: int
    augment: Augment | None
    stream: Callable[[int, Known | None], DataStream]
    sample: Callable[[int, int], tuple[Batch, list[Annotation]]]
    kept: Callable[[Sequence[int]], Iterator[tuple[Int[np.ndarray, " n"], Batch]]]
    evaluated: Callable[[str], EvaluationBatches]
    left_out: Callable[[], list[str]]
    summary: Callable[[], list[str]]

    @property
    def sizes(self) -> dict[str, int]:
        """Images of each split that there is, without those that its description rules out."""
        return {split: len(records) for split, records in self.sources.items()}

    @property
    def ruled_out(self) -> dict[str, int]:
        """Number of the latter."""
        return {split: len(records.left_out) for split, records in self.sources.items()}

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the classes are called, in the order of the labels; None where the data set does not say."""
        return next((records.class_names for records in self.sources.values() if records.class_names), None)

    def image_name(self, position: int) -> str:
        """What an image is called, by its position in the training split."""
        return self.sources["train"][position].image_id
