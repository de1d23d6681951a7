"""What is known of a split, gathered image by image: the sums that every figure follows from, and these figures.

What two hosts find of a half each adds up exactly. A part's figures come from the same metrics, summed over its images,
at the thresholds that are best for the whole: a class that picked its own would look better the fewer images it has.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fcam_jax.evaluation.activations import Activations
from fcam_jax.evaluation.bootstrap import Bootstrap, interval
from fcam_jax.evaluation.box_accuracy import BoxAccuracy
from fcam_jax.evaluation.metric import Means, Metric, Scored, Totals, add, thresholds
from fcam_jax.evaluation.metrics import kinds
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.evaluation.plausibility import Plausibility
from fcam_jax.evaluation.result import Evaluation, Example
from fcam_jax.runtime.text import listed

# Upper ends of the object's share of the image, and the names of the parts.
_SHARES = (0.1, 0.3, 0.6)
SIZES = ("below 10 %", "10 to 30 %", "30 to 60 %", "60 % and more")

At = tuple[int, str]  # position of a threshold at which figures are given too, and what their names call it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is measured; of the metrics, those that the ground truth allows."""

    step: float = 0.001
    kinds: tuple[type[Metric], ...] = dataclasses.field(default_factory=kinds)
    bootstrap: int = 0  # replicates for the intervals; 0 gives none
    seed: int = 0
    parts: bool = False  # whether figures of each class and object size are given


class Measured(NamedTuple):
    """One image."""

    image: Scored
    metrics: list[Metric]  # of the image alone
    size: int | None  # its object's share of the image, a position in `SIZES`; None where that is not known


def measured(image: Scored, wanted: Wanted) -> Measured:
    """Measure one image by those kinds of metrics that its ground truth allows.

    Raises InputError: the score map or the annotation cannot be used; the message names the image.
    """
    image, truth = image.checked(), image.annotation
    allowed = [kind for kind in wanted.kinds if kind.measurable(truth)] + ([Means] if image.measures else [])
    metrics = [kind(wanted.step).measure(image) for kind in allowed]
    share = image.object.mean() if Metric.measurable(truth) else None
    return Measured(image, metrics, None if share is None else int(np.searchsorted(_SHARES, share, side="right")))


class Findings:
    """Sums over the images of a split; memory does not grow with their number."""

    def __init__(self, wanted: Wanted) -> None:
        """Nothing yet of what is wanted."""
        self.images = self._localized = 0
        self._wanted = wanted
        self._totals: Totals = {}
        # By what the part is of, and by class or by position in `SIZES`.
        self._parts: dict[str, dict[int, Totals]] = {"class": {}, "size": {}}
        self._bootstrap = Bootstrap(wanted.bootstrap, wanted.seed) if wanted.bootstrap else None
        self._constant: dict[int, str] = {}  # ids of the images whose map is the same everywhere, by position

    def add(self, measured: Measured) -> None:
        """Add an image."""
        image, metrics, size = measured
        add(self._totals, metrics)
        self.images += 1
        self._localized += size is not None
        if image.score_map.min() == image.score_map.max():
            self._constant[image.position] = image.annotation.image_id
        for of, part in (("class", image.annotation.label), ("size", size)) if self._wanted.parts else ():
            if part is not None:
                add(self._parts[of].setdefault(part, {}), metrics)
        if self._bootstrap is not None:
            self._bootstrap.add(image.position, metrics)

    def merge(self, other: "Findings") -> None:
        """Add what is known of other images of the split."""
        add(self._totals, other._totals.values())
        self.images += other.images
        self._localized += other._localized
        self._constant |= other._constant
        for of, parts in other._parts.items():
            for part, totals in parts.items():
                add(self._parts[of].setdefault(part, {}), totals.values())
        if self._bootstrap is not None and other._bootstrap is not None:
            self._bootstrap.merge(other._bootstrap)

    def evaluation(self, at: At | None = None, examples: Sequence[Example] = ()) -> Evaluation:
        """The figures that follow, also at a given threshold."""
        taus, totals = thresholds(self._wanted.step), self._totals
        curves = {name: curve for metric in totals.values() for name, curve in metric.curves().items()}
        best = {name: place for metric in totals.values() for name, place in metric.best().items()}
        without_object = self.images - self._localized if self._localized else 0
        constant = tuple(image_id for _, image_id in sorted(self._constant.items()))
        lines = [f"{len(constant)} constant map(s) count as 0 everywhere: {listed(constant)}"] if constant else []
        if without_object:
            lines.append(f"{without_object} image(s) without an object count for classification alone")
        facts: dict[str, Any] = {"counts": {}}
        if isinstance(boxes := totals.get(BoxAccuracy), BoxAccuracy):
            facts["counts"]["correct"] = boxes.correct()
        if isinstance(pixels := totals.get(PixelPrecision), PixelPrecision):
            facts["counts"]["pixels"] = {name: pixels.counts[name] for name in ("foreground", "background")}
            facts["precision_recall"] = pixels.curve()
            if not pixels.counts["background"].any():
                lines.append("the masks, with what is undecided, leave no background: PxAP is 100 whatever the maps")
        if scores := totals.get(Activations):
            facts["histogram"] = scores.counts["pixels"]
        if isinstance(plausible := totals.get(Plausibility), Plausibility):
            lines += plausible.doubts()
        of = functools.partial(_figures, at=at)
        replicates = self._bootstrap.figures(of) if self._bootstrap else {}
        return Evaluation(
            metrics=of(totals),
            examples=list(examples),
            thresholds=taus,
            curves=curves,
            intervals={name: interval(values) for name, values in replicates.items()},
            replicates=replicates,
            by_size={SIZES[size]: part for size, part in _of_parts(self._parts["size"], best).items()},
            by_class=_of_parts(self._parts["class"], best),
            best_thresholds={
                name: float(taus[place]) for name, place in best.items() if curves.get(name, taus + 1)[place] > 0
            },
            constant=constant,
            images=self.images,
            without_object=without_object,
            warnings=tuple(lines),
            **facts,
        )


def _figures(totals: Totals, at: At | None) -> dict[str, float]:
    values: dict[str, float] = {}
    for metric in totals.values():
        values |= metric.compute()
        if at is not None:
            values |= metric.at(dict.fromkeys(metric.best(), at[0]), at[1])
    return values


def _of_parts(parts: dict[int, Totals], best: dict[str, int]) -> dict[int, dict[str, float | int]]:
    figures: dict[int, dict[str, float | int]] = {}
    for part, totals in sorted(parts.items()):
        for metric in totals.values():
            figures.setdefault(part, {}).update({"images": metric.images, **metric.of_part(best)})
    return figures
