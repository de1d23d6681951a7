"""What is known of a split, gathered image by image: the sums that every figure follows from.

In: the metrics of each image. Out: figures of the whole split, of its parts, and their intervals. What two hosts
find of a half each adds up exactly.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fcam_jax.evaluation.bootstrap import Bootstrap
from fcam_jax.evaluation.box_accuracy import BoxAccuracy
from fcam_jax.evaluation.breakdown import SIZES, Breakdown, object_size
from fcam_jax.evaluation.metric import Metric, Totals, add, checked_score_map
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.types import Annotation

PROTOCOL: tuple[type[Metric], ...] = (BoxAccuracy, PixelPrecision)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One image.

    Attributes:
      metrics: of the image alone.
      label: its class.
      size: its object's share of the image, see `object_size`; None where that is not known.
      constant: whether its map is the same everywhere, and so localizes nothing.
    """

    metrics: list[Metric]
    label: int
    size: int | None
    constant: bool


class Findings:
    """Sums over the images of a split; memory does not grow with their number.

    Attributes:
      totals: metrics of all images.
      classes: metrics by class; None where parts are not asked for.
      sizes: metrics by the object's share of the image; likewise.
      bootstrap: replicates of the metrics, if they were asked for.
      constant: number of images whose map is the same everywhere.
      images: number of images.
    """

    def __init__(self, parts: bool = False, bootstrap: Bootstrap | None = None) -> None:
        """Nothing yet.

        Args:
          parts: whether the metrics of parts of the split are kept too.
          bootstrap: an empty one, to be filled.
        """
        self.totals: Totals = {}
        self.classes = Breakdown() if parts else None
        self.sizes = Breakdown() if parts else None
        self.bootstrap = bootstrap
        self.constant = 0
        self.images = 0

    def add(self, position: int, image: Measured) -> None:
        """Add the image at a position of the split."""
        add(self.totals, image.metrics)
        self.constant += image.constant
        self.images += 1
        if self.classes is not None and self.sizes is not None:
            self.classes.add(image.label, image.metrics)
            if image.size is not None:
                self.sizes.add(image.size, image.metrics)
        if self.bootstrap is not None:
            self.bootstrap.add(position, image.metrics)

    def merge(self, other: "Findings") -> None:
        """Add what is known of other images of the split."""
        add(self.totals, other.totals.values())
        self.constant += other.constant
        self.images += other.images
        for own, others in ((self.classes, other.classes), (self.sizes, other.sizes)):
            if own is not None and others is not None:
                own.merge(others)
        if self.bootstrap is not None and other.bootstrap is not None:
            self.bootstrap.merge(other.bootstrap)

    def best(self) -> dict[str, int]:
        """Positions of the split's best thresholds, see `BoxAccuracy.best`; empty without boxes."""
        boxes = self.totals.get(BoxAccuracy)
        return boxes.best() if isinstance(boxes, BoxAccuracy) else {}

    def by_size(self) -> dict[str, dict[str, float | int]]:
        """Figures by the object's share of the image, at the split's best thresholds, and numbers of images."""
        assert self.sizes is not None, "ask for parts"
        return {SIZES[size]: figures for size, figures in self.sizes.figures(self.best()).items()}

    def by_class(self) -> dict[int, dict[str, float | int]]:
        """Figures by class, at the split's best thresholds, and numbers of images."""
        assert self.classes is not None, "ask for parts"
        return self.classes.figures(self.best())


def measured(
    score_map: np.ndarray, annotation: Annotation, rank: int | None, step: float, kinds: Sequence[type[Metric]]
) -> Measured:
    """Measure one image by those kinds of metrics that its ground truth allows; arguments as in `Metric.measure`."""
    checked = checked_score_map(score_map, annotation.image_id)
    metrics = [
        kind.empty(step).measure_checked(checked, annotation, rank) for kind in kinds if kind.measurable(annotation)
    ]
    located = annotation.boxes is not None or annotation.mask is not None
    size = object_size(annotation, score_map.shape[:2]) if located else None
    return Measured(metrics, annotation.label, size, bool(checked.min() == checked.max()))


def figures(totals: Totals, *, at: tuple[int, str] | None = None, mean_best_iou: bool = False) -> dict[str, float]:
    """All figures of a set of images by name.

    Args:
      totals: the metrics of the set.
      at: position of a threshold at which box accuracies are given too, and what their names call it.
      mean_best_iou: whether the mean IoU of the best boxes is given too.
    """
    values: dict[str, float] = {}
    for metric in totals.values():
        values |= metric.compute()
        if isinstance(metric, BoxAccuracy):
            if at is not None:
                values |= metric.at(dict.fromkeys(metric.best(), at[0]), at[1])
            if mean_best_iou:
                values["MeanBestIoU"] = metric.mean_best_iou()
    return values
