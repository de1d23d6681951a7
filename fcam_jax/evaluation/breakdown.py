"""Figures of parts of a split: the images of each class, and the images whose object is about the same size.

A part's figures come from the same metrics as those of the whole, summed over the part's images, at the thresholds that
are best for the whole: a class that picked its own best threshold would look better the fewer images it has.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from fcam_jax.evaluation.box_accuracy import BoxAccuracy
from fcam_jax.evaluation.metric import Metric, Totals, add
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.types import Annotation

# Upper ends of the object's share of the image, and the names of the parts.
_SHARES = (0.1, 0.3, 0.6)
SIZES = ("below 10 %", "10 to 30 %", "30 to 60 %", "60 % and more")


class Breakdown:
    """Metrics of the parts of a split; memory grows with the number of parts, not with that of images.

    Attributes:
      parts: by number.
    """

    parts: dict[int, Totals]

    def __init__(self) -> None:
        self.parts = {}

    def add(self, part: int, metrics: Iterable[Metric]) -> None:
        """Add an image, by its metrics, to a part."""
        add(self.parts.setdefault(part, {}), metrics)

    def merge(self, other: "Breakdown") -> None:
        """Add the parts of other images of the split."""
        for part, totals in other.parts.items():
            self.add(part, totals.values())

    def figures(self, best: Mapping[str, int]) -> dict[int, dict[str, float | int]]:
        """Figures of each part in percent, and its number of images.

        Args:
          best: positions of the whole split's best thresholds, see `BoxAccuracy.best`; empty without boxes.
        """
        return {part: _figures(self.parts[part], best) for part in sorted(self.parts)}


def object_size(annotation: Annotation, shape: tuple[int, int]) -> int:
    """The part of a split that an image belongs to by its object's share of the image.

    The object is the union of the image's boxes, or its mask.

    Args:
      annotation: boxes or mask of the image.
      shape: height and width of its frame.

    Returns:
      Position in ``SIZES``.
    """
    covered = annotation.mask
    if annotation.boxes is not None:
        covered = np.zeros(shape, bool)
        for x0, y0, x1, y1 in annotation.boxes.tolist():
            covered[y0 : y1 + 1, x0 : x1 + 1] = True
    assert covered is not None
    return int(np.searchsorted(_SHARES, np.count_nonzero(covered) / covered.size, side="right"))


def _figures(totals: Totals, best: Mapping[str, int]) -> dict[str, float | int]:
    figures: dict[str, float | int] = {}
    for metric in totals.values():
        figures["images"] = int(metric.counts["images"])
        if isinstance(metric, BoxAccuracy):
            figures |= metric.at(best, "best") | metric.classification()
        elif not isinstance(metric, PixelPrecision) or metric.counts["foreground"].any():
            figures |= metric.compute()
    return figures
