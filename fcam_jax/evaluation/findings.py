"""What is known of a split, gathered image by image: the sums that every figure follows from.

In: the metrics of each image. Out: figures of the whole split, of its parts, and their intervals. What two hosts find
of a half each adds up exactly. A part's figures come from the same metrics, summed over its images, at the thresholds
that are best for the whole: a class that picked its own would look better the fewer images it has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fcam_jax.evaluation.bootstrap import Bootstrap
from fcam_jax.evaluation.metric import Means, Metric, Scored, Totals, add

# Upper ends of the object's share of the image, and the names of the parts.
_SHARES = (0.1, 0.3, 0.6)
SIZES = ("below 10 %", "10 to 30 %", "30 to 60 %", "60 % and more")


class Measured(NamedTuple):
    """One image."""

    image: Scored
    metrics: list[Metric]  # of the image alone
    size: int | None  # its object's share of the image, see `object_size`; None where that is not known
    constant: bool  # whether its map is the same everywhere, and so localizes nothing


class Findings:
    """Sums over the images of a split; memory does not grow with their number.

    Attributes:
      totals: metrics of all images.
      classes: metrics by class; empty where parts are not asked for.
      sizes: metrics by the object's share of the image, a position in `SIZES`; likewise.
      bootstrap: replicates of the metrics, if they were asked for.
      constant: ids of the images whose map is the same everywhere, by position.
      images: number of images.
      localized: number of those with a box or a mask.
    """

    def __init__(self, parts: bool = False, bootstrap: Bootstrap | None = None) -> None:
        """Nothing yet; `parts` says whether the metrics of parts of the split are kept, too."""
        self.totals: Totals = {}
        self.classes: dict[int, Totals] = {}
        self.sizes: dict[int, Totals] = {}
        self.bootstrap = bootstrap
        self.constant: dict[int, str] = {}
        self.images = self.localized = 0
        self._parts = parts

    def add(self, measured: Measured) -> None:
        """Add an image."""
        image, metrics, size, constant = measured
        add(self.totals, metrics)
        self.images += 1
        self.localized += size is not None
        if constant:
            self.constant[image.position] = image.annotation.image_id
        if self._parts:
            add(self.classes.setdefault(image.annotation.label, {}), metrics)
            if size is not None:
                add(self.sizes.setdefault(size, {}), metrics)
        if self.bootstrap is not None:
            self.bootstrap.add(image.position, metrics)

    def merge(self, other: "Findings") -> None:
        """Add what is known of other images of the split."""
        add(self.totals, other.totals.values())
        self.images += other.images
        self.localized += other.localized
        self.constant |= other.constant
        for own, others in ((self.classes, other.classes), (self.sizes, other.sizes)):
            for part, totals in others.items():
                add(own.setdefault(part, {}), totals.values())
        if self.bootstrap is not None and other.bootstrap is not None:
            self.bootstrap.merge(other.bootstrap)

    def best(self) -> dict[str, int]:
        """Positions of the split's best thresholds, see `Metric.best`."""
        return {name: place for metric in self.totals.values() for name, place in metric.best().items()}

    def by_size(self) -> dict[str, dict[str, float | int]]:
        """Figures by the object's share of the image, at the split's best thresholds, and numbers of images."""
        return {SIZES[size]: figures for size, figures in self._of(self.sizes).items()}

    def by_class(self) -> dict[int, dict[str, float | int]]:
        """Figures by class, at the split's best thresholds, and numbers of images."""
        return self._of(self.classes)

    def _of(self, parts: dict[int, Totals]) -> dict[int, dict[str, float | int]]:
        best = self.best()
        figures: dict[int, dict[str, float | int]] = {}
        for part, totals in sorted(parts.items()):
            for metric in totals.values():
                figures.setdefault(part, {}).update({"images": metric.images, **metric.of_part(best)})
        return figures


def measured(image: Scored, step: float, kinds: Sequence[type[Metric]]) -> Measured:
    """Measure one image by those kinds of metrics that its ground truth allows.

    Raises:
      InputError: the score map or the annotation cannot be used; the message names the image.
    """
    image, truth = image.checked(), image.annotation
    wanted = [kind for kind in kinds if kind.measurable(truth)] + ([Means] if image.measures else [])
    metrics = [kind(step).measure_scored(image) for kind in wanted]
    size = object_size(image) if Metric.measurable(truth) else None
    return Measured(image, metrics, size, bool(image.score_map.min() == image.score_map.max()))


def object_size(image: Scored) -> int:
    """Position in `SIZES` by the share of the image that the object covers."""
    return int(np.searchsorted(_SHARES, image.object.mean(), side="right"))


def figures(totals: Totals, at: tuple[int, str] | None = None) -> dict[str, float]:
    """All figures of a set of images by name, also at a given threshold: its position, and what the names call it."""
    values: dict[str, float] = {}
    for metric in totals.values():
        values |= metric.compute()
        if at is not None:
            values |= metric.at(dict.fromkeys(metric.best(), at[0]), at[1])
    return values
