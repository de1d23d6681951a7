"""The contract of a localization metric, and what all of them share: thresholds and the demands on a score map.

A metric is a frozen value made of one setting and integer counts. Measuring an image gives the metric of that image
alone; metrics of images, threads and hosts are summed exactly by adding their counts.
"""

import abc
import dataclasses
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from fcam_jax.errors import InputError
from fcam_jax.types import Annotation

# `typing.Self` is beyond the shape checker of the tests.
M = TypeVar("M", bound="Metric")


@dataclasses.dataclass(frozen=True)
class Metric(abc.ABC):
    """Settings and counts; ``empty`` starts one, ``update`` and ``merge`` return a new one.

    Attributes:
      step: distance of two thresholds, in (0, 1]; the protocol's is .001.
      counts: integer arrays by name; those of two parts of a data set add up to those of the whole.
    """

    step: float
    counts: dict[str, Int[np.ndarray, "..."]]

    @classmethod
    @abc.abstractmethod
    def empty(cls: type[M], step: float = 0.001) -> M:
        """The metric of no image."""

    @staticmethod
    @abc.abstractmethod
    def measurable(annotation: Annotation) -> bool:
        """Whether the image has the kind of ground truth that the metric needs."""

    @abc.abstractmethod
    def measure_checked(
        self: M, score_map: Float[np.ndarray, "h w"], annotation: Annotation, rank: int | None = None
    ) -> M:
        """The metric of one image: reads ``step`` only and releases the interpreter lock, so threads may share it.

        Args:
          score_map: score of every pixel for the image's class, from `checked_score_map`.
          annotation: ground truth in the frame of the score map.
          rank: how many classes were predicted before the true one, see `class_ranks`; None without predictions.

        Raises:
          InputError: the annotation cannot be used; the message names the image.
        """

    @abc.abstractmethod
    def compute(self) -> dict[str, float]:
        """The metric's figures by name, in percent.

        Raises:
          InputError: the counts allow no figure, e.g. there was no image.
        """

    def measure(self: M, score_map: np.ndarray, annotation: Annotation, rank: int | None = None) -> M:
        """The metric of one image whose score map is yet to be checked; otherwise as `measure_checked`.

        Raises:
          InputError: the score map or the annotation cannot be used; the message names the image.
        """
        return self.measure_checked(checked_score_map(score_map, annotation.image_id), annotation, rank)

    def update(self: M, score_map: np.ndarray, annotation: Annotation, rank: int | None = None) -> M:
        """The metric with one more image; arguments as in `measure`."""
        return self.merge(self.measure(score_map, annotation, rank))

    def merge(self: M, other: M) -> M:
        """The metric of both sets of images.

        Raises:
          InputError: the two have different thresholds.
        """
        if self.step != other.step:
            raise InputError(f"metrics with threshold steps {self.step} and {other.step} cannot be merged")
        return dataclasses.replace(
            self, counts={name: np.asarray(self.counts[name] + other.counts[name]) for name in self.counts}
        )


# What is known of a set of images: one metric of each kind.
Totals = dict[type[Metric], Metric]


def add(totals: Totals, metrics: Iterable[Metric]) -> None:
    """Add the metrics of more images to those of a set."""
    for metric in metrics:
        kind = type(metric)
        totals[kind] = totals[kind].merge(metric) if kind in totals else metric


def thresholds(step: float) -> Float[np.ndarray, " t"]:
    """Thresholds of the protocol, ``0, step, 2 step, ...`` below 1.

    Raises:
      InputError: the step is outside (0, 1].
    """
    if not 0 < step <= 1:
        raise InputError(f"threshold step is {step}, must lie in (0, 1], e.g. .001")
    return np.arange(0, 1, step)


def checked_score_map(score_map: np.ndarray, image_id: str) -> Float[np.ndarray, "h w"]:
    """The score map in float64, after a check that it can be evaluated.

    Raises:
      InputError: it is not a non-empty matrix of floating-point numbers in [0, 1].
    """
    if score_map.ndim != 2 or score_map.size == 0:
        raise InputError(f"image {image_id}: score map has shape {score_map.shape}, must be (height, width)")
    if not np.issubdtype(score_map.dtype, np.floating):
        raise InputError(f"image {image_id}: score map holds {score_map.dtype}, must be floating point in [0, 1]")
    score_map = np.ascontiguousarray(score_map, np.float64)
    low, high = score_map.min(), score_map.max()
    if not np.isfinite([low, high]).all():
        raise InputError(f"image {image_id}: score map holds NaN or infinity")
    if low < 0 or high > 1:
        raise InputError(f"image {image_id}: score map lies in [{low:.6g}, {high:.6g}], must lie in [0, 1]")
    return score_map
