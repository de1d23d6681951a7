"""What a method localizes in one image: its map cut at its best threshold, and how well that meets the ground truth."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int, UInt8

from fcam_jax.evaluation.box_accuracy import DEFAULT_THRESHOLD, threshold_of
from fcam_jax.evaluation.boxes import box_iou, level_thresholds
from fcam_jax.evaluation.component_tree import contours
from fcam_jax.types import Annotation


@dataclasses.dataclass(frozen=True)
class Localized:
    """A map cut at a threshold."""

    threshold: float  # share of the map's maximum, in [0, 1)
    mask: Bool[np.ndarray, "h w"]  # True above it
    # of the mask's largest contour, corners ``x0, y0, x1, y1``; None where the ground truth has no boxes
    box: Int[np.ndarray, " 4"] | None
    iou: float | None  # of the box with the best true box, or, without boxes, of the masks; None without ground truth


def best_threshold(figures: Mapping[str, float]) -> float:
    """The threshold that is best for the whole split, from a method's figures."""
    tau = threshold_of(figures)
    return DEFAULT_THRESHOLD if tau is None else tau


def localized(levels: UInt8[np.ndarray, "h w"], truth: Annotation, threshold: float) -> Localized:
    """Cut a map on the 8-bit levels that the metrics cut on.

    Args:
      levels: the map by `quantise`.
      truth: ground truth in the map's frame.
      threshold: share of the map's maximum.
    """
    level = level_thresholds(np.array([threshold]), levels)[0]
    mask = levels > level
    if truth.boxes is None:
        return Localized(threshold, mask, None, _mask_iou(mask, truth))
    box = contours(levels).largest[level]
    return Localized(threshold, mask, box, float(box_iou(box[None], truth.boxes).max()))


def _mask_iou(mask: Bool[np.ndarray, "h w"], truth: Annotation) -> float | None:
    """Overlap of the masks outside of what is undecided; None without a true mask."""
    if truth.mask is None:
        return None
    counted = np.ones_like(mask) if truth.ignore is None else ~truth.ignore | truth.mask
    both, either = mask & truth.mask & counted, (mask | truth.mask) & counted
    return float(both.sum() / max(int(either.sum()), 1))
