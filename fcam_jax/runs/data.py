"""The data of a run: its splits as batches, and what is known of them."""

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from fcam_jax.data.augment import Augment
from fcam_jax.data.loaded import LeftOut, LoadedImages, Memory
from fcam_jax.data.pipeline import FixedCrops, Known, TrainingStream, crop_batches, evaluation_batches, whole_batches
from fcam_jax.data.settings import DataSettings
from fcam_jax.data.source import Source
from fcam_jax.data.summary import summary
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ClassifierTraining
from fcam_jax.runtime import hosts
from fcam_jax.types import Annotation, Batch

logger = logging.getLogger(__name__)

EvaluationBatches = Iterator[tuple[Batch, list[Annotation]]]


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
      opened: records of the splits that there are, as their source has them.
      sources: those with the model's labels; in the place of "train" what is trained on, which may be less.
      settings: size of images and batches, and what is done with images that cannot be used.
      tested_side: side in pixels of the images that are evaluated.
      evaluated_at_once: images of an evaluation batch, over all devices.
      augment: changes the images that the network is trained on; None where it sees them as they are.
      fixed: the crops of which something may be kept; None where it is of whole images.
      way: how stage 1 is trained, which may ask for objects, and for an order of the images.
    """

    opened: Mapping[str, Source]
    sources: Mapping[str, Source]
    settings: DataSettings
    tested_side: int
    evaluated_at_once: int
    augment: Augment | None
    fixed: FixedCrops | None
    way: ClassifierTraining

    @property
    def batch_size(self) -> int:
        """Images of a training step, over all devices."""
        return self.settings.batch_size

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

    def stream(self, seed: int, kept: Known | None) -> TrainingStream:
        """Training batches from a seed on, with what is kept of the images if given."""
        of_crops = {"fixed": self.fixed, "features": kept}
        known: dict[str, Any] = {} if kept is None else of_crops if self.fixed else {"cams": kept}
        return TrainingStream(
            self._training,
            batch_size=self.batch_size,
            crop=self.settings.size,
            seed=seed,
            objects=self._objects,
            order=self.way.order(self.sources["train"], seed),
            **known,
            **_here(),
        )

    def sample(self, count: int, seed: int) -> tuple[Batch, list[Annotation]]:
        """A training batch of so many images from a seed, with its ground truth, to be looked at."""
        images = self._loaded("train", self.settings.resize)
        return TrainingStream(images, batch_size=count, crop=self.settings.size, seed=seed).with_annotations()

    def kept(self, rows: Sequence[int]) -> Iterator[tuple[Int[np.ndarray, " n"], Batch]]:
        """Batches of the training images, or of their fixed crops, of some numbers, to compute what is kept of them."""
        size = self.evaluated_at_once
        if self.fixed is None:
            return whole_batches(self._training, rows, batch_size=size)
        return crop_batches(self._training, rows, batch_size=size, fixed=self.fixed, side=self.settings.size)

    def evaluated(self, split: str) -> EvaluationBatches:
        """The batches of a split, each image once; those of val are kept in memory for the next time."""
        images = self._validation if split == "val" else self._loaded(split, self.tested_side)
        return evaluation_batches(images, batch_size=self.evaluated_at_once, **_here())

    def left_out(self) -> list[str]:
        """What was wrong with each image that was left out so far, a line each."""
        known = [f"{split}: {line}" for split, records in self.sources.items() for line in records.left_out]
        return [*known, *(self._left_out.lines() if self._left_out is not None else [])]

    def tell(self, *, known: bool = False) -> None:
        """Log what the splits are, and what a look at some of their images finds; in short where that was `known`."""
        if hosts.is_first():
            sizes = ", ".join(f"{count} of {split}" for split, count in self.sizes.items())
            for line in [f"images: {sizes}"] if known else summary(self.opened):
                logger.info("data: %s", line)

    @property
    def _objects(self) -> bool:
        return "objects" in self.way.needs

    @functools.cached_property
    def _left_out(self) -> LeftOut | None:
        return LeftOut() if self.settings.on_error == "skip" else None

    @functools.cached_property
    def _memory(self) -> Memory:
        return Memory(int(self.settings.cache_gigabytes * 2**30))

    @functools.cached_property
    def _training(self) -> LoadedImages:
        return self._loaded("train", self.settings.resize, annotated=self._objects, memory=self._memory)

    @functools.cached_property
    def _validation(self) -> LoadedImages:
        return self._loaded("val", self.tested_side, memory=self._memory)

    def _loaded(self, split: str, side: int, *, annotated: bool = True, memory: Memory | None = None) -> LoadedImages:
        if split not in self.sources:
            raise InputError(f"the data has no split {split!r}; there: {', '.join(self.sources)}")
        return LoadedImages(
            self.sources[split], side, annotated=annotated, memory=memory, left_out=self._left_out, name=split
        )


def _here() -> dict[str, Any]:
    """Which part of each batch is this process's."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}
