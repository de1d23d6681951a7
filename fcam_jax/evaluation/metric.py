"""The contract of a metric: what it counts of an image's score map, and the figures that follow from the sums.

A metric is a frozen value made of one setting and integer counts. Counting an image gives the metric of that image
alone; metrics of images, threads and hosts are summed exactly by adding their counts. All that evaluator, tables and
report know of a metric stands in its class, and one line in `metrics.METRICS` makes it known.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from fcam_jax.errors import InputError
from fcam_jax.evaluation.score_map import checked_score_map
from fcam_jax.types import Annotation

# `typing.Self` is beyond the shape checker of the tests.
M = TypeVar("M", bound="Metric")
T = TypeVar("T")

# Means are sums of whole multiples of this, so that they do not depend on the order of the images.
UNIT = 2.0**-32


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure that a metric gives, in percent; one whose name ends with "_threshold" is a threshold in [0, 1]."""

    name: str
    column: int | None = 100  # its place among a table's columns, from the left; None where it is none of them
    selects: int | None = None  # its place among those that choose the best model unasked, if it is one of them
    mean_of: tuple[str, ...] = ()  # figures whose mean it is, each at the threshold that is best for it

    def at(self, label: str) -> str:
        """Its name at a threshold that is not its own best, as in ``BoxAcc_at_val``."""
        return f"{self.name.removeprefix('Max')}_at_{label}"


@dataclasses.dataclass(frozen=True)
class Scored:
    """An image of a split with its score map, from wherever."""

    score_map: np.ndarray  # of every pixel for the image's class, in [0, 1]; metrics get it checked and in float64
    annotation: Annotation  # in the frame of the score map
    rank: int | None = None  # how many classes were predicted before the true one; None without predictions
    position: int = 0  # in the split
    measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # in [0, 1], that came with the map
    _shared: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)

    def checked(self) -> "Scored":
        """The image with its map as metrics want it, see `checked_score_map`."""
        return dataclasses.replace(self, score_map=checked_score_map(self.score_map, self.annotation.image_id))

    @functools.cached_property
    def object(self) -> Bool[np.ndarray, "h w"]:
        """Where the object is: the union of the boxes, or the mask; nowhere without either."""
        truth = self.annotation
        if truth.boxes is None and truth.mask is not None:
            return truth.mask
        covered = np.zeros(self.score_map.shape, bool)
        for x0, y0, x1, y1 in () if truth.boxes is None else truth.boxes.tolist():
            covered[y0 : y1 + 1, x0 : x1 + 1] = True
        return covered

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What several metrics need of the image, made for the first that asks."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True)
class Metric(abc.ABC):
    """A setting and counts; as it is made it is that of no image, and ``update`` and ``merge`` return a new one.

    A subclass has `figures`, `count` and `compute`; the rest has a sense as it is.

    Attributes:
      step: distance of two thresholds, in (0, 1]; the protocol's is .001.
      counts: integer arrays by name, "images" among them; those of two parts of a data set add up to the whole's.
    """

    figures: ClassVar[tuple[Figure, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ("boxes", "mask")  # fields of `Annotation`, one of which must be there
    of_classes: ClassVar[bool] = False  # whether it needs class scores; it breaks the ties of those that need none
    extra: ClassVar[bool] = True  # measured only where it is asked for by its name in the registry

    step: float = 0.001
    counts: dict[str, Int[np.ndarray, "..."]] = dataclasses.field(default_factory=dict)

    @classmethod
    def measurable(cls, annotation: Annotation) -> bool:
        """Whether the image has the ground truth that the metric needs; no boxes at all are none."""
        there = (getattr(annotation, name) for name in cls.needs)
        return not cls.needs or any(truth is not None and len(truth) > 0 for truth in there)

    @abc.abstractmethod
    def count(self, image: Scored) -> Mapping[str, Any]:
        """Counts of one image, integers or arrays of them, but for "images"; reads ``step`` only.

        Numeric work should release the interpreter lock: threads share the images. Raises InputError: the annotation
        cannot be used; the message names the image.
        """

    def compute(self) -> dict[str, float]:
        """The figures by name, in percent. Raises InputError: the counts, e.g. of no image, allow none."""
        return {}

    @property
    def images(self) -> int:
        """The number of images, to divide by. Raises InputError: it is 0."""
        if not self.counts or self.counts["images"] == 0:
            raise InputError(f"{type(self).__name__} of no image: the evaluated split is empty")
        return int(self.counts["images"])

    def curves(self) -> dict[str, Float[np.ndarray, " t"]]:
        """Figures at every threshold of ``thresholds(step)``, in percent, by name."""
        return {}

    def best(self) -> dict[str, int]:
        """Position of the threshold that each figure is at, where it is at one that is best for the images."""
        return {}

    def at(self, positions: Mapping[str, int], label: str) -> dict[str, float]:
        """Figures at thresholds that are given by position for each name of `best`; `Figure.at` names them."""
        return {}

    def of_part(self, best: Mapping[str, int]) -> dict[str, float]:
        """Figures of a part of a split: at the thresholds that are best for the whole, where there are any."""
        return self.compute()

    def row(self, image: Scored, tau: float | None) -> dict[str, Any]:
        """What a table with a row per image tells of one, at a threshold where that is asked for."""
        return {}

    def measure(self: M, image: Scored) -> M:
        """The metric of one image, whose map is checked."""
        counts = {"images": 1, **self.count(image)}
        return type(self)(self.step, {name: np.asarray(count, np.int64) for name, count in counts.items()})

    def update(self: M, score_map: np.ndarray, annotation: Annotation, rank: int | None = None) -> M:
        """The metric with one more image, whose map is yet to be checked; see `Scored`."""
        return self.merge(self.measure(Scored(score_map, annotation, rank).checked()))

    def merge(self: M, other: M) -> M:
        """The metric of both sets of images, of which the thresholds must be the same."""
        if self.step != other.step:
            raise InputError(f"metrics with threshold steps {self.step} and {other.step} cannot be merged")
        if not self.counts or not other.counts:
            return other if other.counts else self
        counts = {name: np.asarray(count + other.counts[name]) for name, count in self.counts.items()}
        return dataclasses.replace(self, counts=counts)


class Means(Metric):
    """Means over the images of the figures that came with their maps, in percent.

    Counts: sums of the figures by their names, in units of 2^-32.
    """

    needs = ()

    def count(self, image: Scored) -> Mapping[str, Any]:
        """The image's figures."""
        return {name: np.rint(float(value) / UNIT) for name, value in image.measures.items()}

    def compute(self) -> dict[str, float]:
        """The means in percent."""
        images = self.images
        return {name: float(100 * UNIT * count / images) for name, count in self.counts.items() if name != "images"}


# What is known of a set of images: one metric of each kind.
Totals = dict[type[Metric], Metric]


def add(totals: Totals, metrics: Iterable[Metric]) -> None:
    """Add the metrics of more images to those of a set."""
    for metric in metrics:
        kind = type(metric)
        totals[kind] = totals[kind].merge(metric) if kind in totals else metric


def thresholds(step: float) -> Float[np.ndarray, " t"]:
    """Thresholds of the protocol, ``0, step, 2 step, ...`` below 1. Raises InputError: the step is outside (0, 1]."""
    if not 0 < step <= 1:
        raise InputError(f"threshold_step is {step}; it must lie in (0, 1], e.g. .001")
    return np.arange(0, 1, step)
