"""What is known of a split, gathered image by image: the sums that every figure follows from.

In: the metrics of each image. Out: figures of the whole split, of its parts, and their intervals. What two hosts find
of a half each adds up exactly. A part's figures come from the same metrics, summed over its images, at the thresholds
that are best for the whole: a class that picked its own would look better the fewer images it has.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from fcam_jax.annotation import Annotation
from fcam_jax.evaluation.bootstrap import Bootstrap
from fcam_jax.evaluation.metric import Means, Metric, Scored, Totals, add
from fcam_jax.evaluation.score_map import checked_score_map

# Upper ends of the object's share of the image, and the names of the parts.
_SHARES = (0.1, 0.3, 0.6)
SIZES = ("below 10 %", "10 to 30 %", "30 to 60 %", "60 % and more")

Parts = dict[int, Totals]


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image of a split with its score map, from wherever.

    Attributes:
      position: in the split.
      score_map: in [0, 1].
      annotation: ground truth in the frame of the score map.
      rank: how many classes were predicted before the true one; None without predictions.
      measures: figures that came with the map, in [0, 1], by name.
    """

    position: int
    score_map: np.ndarray
    annotation: Annotation
    rank: int | None = None
    measures: Mapping[str, Float[np.ndarray, ""]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One image.

    Attributes:
      position: in the split.
      image_id: its key.
      metrics: of the image alone.
      label: its class.
      size: its object's share of the image, see `object_size`; None where that is not known.
      constant: whether its map is the same everywhere, and so localizes nothing.
    """

    position: int
    image_id: str
    metrics: list[Metric]
    label: int
    size: int | None
    constant: bool


class Findings:
    """Sums over the images of a split; memory does not grow with their number.

    Attributes:
      totals: metrics of all images.
      classes: metrics by class; None where parts are not asked for.
      sizes: metrics by the object's share of the image, a position in `SIZES`; likewise.
      bootstrap: replicates of the metrics, if they were asked for.
      constant: ids of the images whose map is the same everywhere, by position.
      images: number of images.
    """

    def __init__(self, parts: bool = False, bootstrap: Bootstrap | None = None) -> None:
        """Nothing yet.

        Args:
          parts: whether the metrics of parts of the split are kept too.
          bootstrap: an empty one, to be filled.
        """
        self.totals: Totals = {}
        self.classes: Parts | None = {} if parts else None
        self.sizes: Parts | None = {} if parts else None
        self.bootstrap = bootstrap
        self.constant: dict[int, str] = {}
        self.images = 0

    def add(self, image: Measured) -> None:
        """Add an image."""
        add(self.totals, image.metrics)
        self.images += 1
        if image.constant:
            self.constant[image.position] = image.image_id
        for parts, part in ((self.classes, image.label), (self.sizes, image.size)):
            if parts is not None and part is not None:
                add(parts.setdefault(part, {}), image.metrics)
        if self.bootstrap is not None:
            self.bootstrap.add(image.position, image.metrics)

    def merge(self, other: "Findings") -> None:
        """Add what is known of other images of the split."""
        add(self.totals, other.totals.values())
        self.images += other.images
        self.constant |= other.constant
        for own, others in ((self.classes, other.classes), (self.sizes, other.sizes)):
            for part, totals in (others or {}).items():
                if own is not None:
                    add(own.setdefault(part, {}), totals.values())
        if self.bootstrap is not None and other.bootstrap is not None:
            self.bootstrap.merge(other.bootstrap)

    def best(self) -> dict[str, int]:
        """Positions of the split's best thresholds, see `Metric.best`."""
        return {name: place for metric in self.totals.values() for name, place in metric.best().items()}

    def by_size(self) -> dict[str, dict[str, float | int]]:
        """Figures by the object's share of the image, at the split's best thresholds, and numbers of images."""
        return {SIZES[size]: figures for size, figures in self._by_part(self.sizes).items()}

    def by_class(self) -> dict[int, dict[str, float | int]]:
        """Figures by class, at the split's best thresholds, and numbers of images."""
        return self._by_part(self.classes)

    def _by_part(self, parts: Parts | None) -> dict[int, dict[str, float | int]]:
        best = self.best()
        return {part: _of_part(totals, best) for part, totals in sorted((parts or {}).items())}


def measured(sample: Sample, step: float, kinds: Sequence[type[Metric]]) -> Measured:
    """Measure one image by those kinds of metrics that its ground truth allows.

    Raises:
      InputError: the score map or the annotation cannot be used; the message names the image.
    """
    annotation = sample.annotation
    image = Scored(checked_score_map(sample.score_map, annotation.image_id), annotation, sample.rank)
    metrics = [kind.empty(step).measure_scored(image) for kind in kinds if kind.measurable(annotation)]
    if sample.measures:
        metrics.append(Means.of_image(sample.measures, step))
    located = annotation.boxes is not None or annotation.mask is not None
    size = object_size(annotation, image.score_map.shape) if located else None
    constant = bool(image.score_map.min() == image.score_map.max())
    return Measured(sample.position, annotation.image_id, metrics, annotation.label, size, constant)


def object_size(annotation: Annotation, shape: tuple[int, int]) -> int:
    """The part of a split that an image belongs to by the share of it that the object covers.

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


def figures(totals: Totals, at: tuple[int, str] | None = None) -> dict[str, float]:
    """All figures of a set of images by name.

    Args:
      totals: the metrics of the set.
      at: position of a threshold at which figures are given too, and what their names call it.
    """
    values: dict[str, float] = {}
    for metric in totals.values():
        values |= metric.compute()
        if at is not None:
            values |= metric.at(dict.fromkeys(metric.best(), at[0]), at[1])
    return values


def _of_part(totals: Totals, best: Mapping[str, int]) -> dict[str, float | int]:
    figures: dict[str, float | int] = {}
    for metric in totals.values():
        figures |= {"images": metric.images, **metric.of_part(best)}
    return figures
