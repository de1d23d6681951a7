"""What an evaluation gives: figures, curves and examples, and a table of the figures for people."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from fcam_jax.runtime.text import aligned
from fcam_jax.types import Annotation


@dataclasses.dataclass(frozen=True)
class Example:
    """An image of the split with its ground truth, for pictures."""

    image: UInt8[np.ndarray, "h w 3"]  # RGB in [0, 255]
    annotation: Annotation
    score_map: Float[np.ndarray, "h w"]  # of the true class
    rank: int | None = None  # how many classes were predicted before the true one; None without predictions
    predicted: int | None = None  # the class predicted first; None likewise


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Figures of the score maps of a split.

    Attributes:
      metrics: figures by name, in percent; "MaxBoxAcc_threshold" and "threshold_at_val" in [0, 1).
      examples: the images that were asked for, in the split's order.
      thresholds: of the curves, in [0, 1).
      curves: box metrics at every threshold by name, in percent; empty where the split has no boxes.
      histogram: pixels of all maps by score, in 256 bins.
      precision_recall: both in [0, 1], from high thresholds to low, over all pixels; None where there are no masks.
      intervals: ends of the figures' 95 % intervals by name; empty without bootstrap.
      replicates: the figures of each replicate of the bootstrap by name, NaN for none; likewise.
      by_size: figures, and "images", by the object's share of the image, at the whole split's best thresholds.
      by_class: the same by class.
      best_thresholds: that of each figure which is at the one that is best for the split.
      counts: whole numbers behind the figures: "correct", images by box metric and threshold, and "pixels", of
        foreground and background by bin of scores; those that the ground truth allows.
      constant: ids of the images whose map is the same everywhere; they count, and localize nothing.
      images: number of images that were evaluated.
      without_object: number of those that have neither box nor mask, where others have: they count for classification.
      warnings: lines on what a user should know of the maps.
    """

    metrics: dict[str, float]
    examples: list[Example]
    thresholds: Float[np.ndarray, " t"]
    curves: dict[str, Float[np.ndarray, " t"]]
    histogram: Int[np.ndarray, "256"] | None = None
    precision_recall: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]] | None = None
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    replicates: dict[str, Float[np.ndarray, " r"]] = dataclasses.field(default_factory=dict)
    by_size: dict[str, dict[str, float | int]] = dataclasses.field(default_factory=dict)
    by_class: dict[int, dict[str, float | int]] = dataclasses.field(default_factory=dict)
    best_thresholds: dict[str, float] = dataclasses.field(default_factory=dict)
    counts: dict[str, dict[str, Int[np.ndarray, " _"]]] = dataclasses.field(default_factory=dict)
    constant: tuple[str, ...] = ()
    images: int = 0
    without_object: int = 0
    warnings: tuple[str, ...] = ()

    def without(self, prefix: str) -> "Evaluation":
        """The same without the figures whose names begin so."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Evaluation(**_without(values, prefix))

    def __str__(self) -> str:
        """The figures for people: of the whole split, and by the object's size."""
        rows = [["", "percent", "95 % interval", "threshold"]]
        for name, value in self.metrics.items():
            if not name.endswith("_threshold"):
                interval = "{:.1f} to {:.1f}".format(*self.intervals[name]) if name in self.intervals else ""
                given = name.partition("_at_")[2]
                best = f"{self.best_thresholds[name]:g} (best)" if name in self.best_thresholds else ""
                rows.append([name, f"{value:.2f}", interval, best or (given and f"{given} (given)")])
        parts = self.by_size.values()
        sizes = [["object's share of the image", *self.by_size]]
        sizes.append(["images", *(str(part["images"]) for part in parts)])
        for name in dict.fromkeys(name for part in parts for name in part if name != "images"):
            sizes.append([name, *(f"{part[name]:.2f}" if name in part else "" for part in parts)])
        without = f", {self.without_object} of them without an object" if self.without_object else ""
        tables = [_table(rows), *([_table(sizes)] if self.by_size else [])]
        return "\n\n".join([f"{self.images} images{without}", *tables])


def _table(rows: Sequence[Sequence[str]]) -> str:
    """The rows aligned, without columns that have no entry."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return aligned(list(zip(*columns, strict=True)))


def _without(values: Mapping[Any, Any], prefix: str) -> dict[Any, Any]:
    return {
        name: _without(value, prefix) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if not str(name).startswith(prefix)
    }
