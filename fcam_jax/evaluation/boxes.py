"""Overlap of the boxes that a score map gives, at every threshold, with the ground truth boxes.

In: a score map, ground truth boxes and thresholds; out: per threshold the best IoU of the largest contour's box and of
any contour's box, from which every box metric follows. Choe et al., CVPR 2020, Sec. 4.1 and appendix.
"""

import dataclasses
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int, UInt8

from fcam_jax.evaluation.component_tree import LEVELS, compiled, contours


@dataclasses.dataclass(frozen=True)
class BestIou:
    """Best IoU over the ground truth boxes at every threshold.

    Attributes:
      largest: of the box around the contour of largest area.
      any_contour: of the box around any contour, holes included.
    """

    largest: Float[np.ndarray, " t"]
    any_contour: Float[np.ndarray, " t"]


def best_iou(
    score_map: Float[np.ndarray, "h w"], truth: Int[np.ndarray, "n 4"], taus: Float[np.ndarray, " t"]
) -> BestIou:
    """Best IoU of predicted with ground truth boxes at every threshold; pure, and free of the interpreter lock.

    At threshold $\\tau$ the foreground is $q > \\lfloor \\tau \\max q \\rfloor$ with $q$ the map in 8 bits. Where
    nothing is foreground the predicted box is ``[0, 0, 0, 0]``.

    Args:
      score_map: in [0, 1].
      truth: inclusive pixel corners ``x0, y0, x1, y1``, at least one box.
      taus: thresholds in [0, 1].
    """
    levels = quantise(score_map)
    at = level_thresholds(taus, levels)
    truth = np.ascontiguousarray(truth, np.int64)
    found = contours(levels)
    largest = _best_per_box(found.largest, truth)
    any_contour = _best_per_threshold(found.boxes, found.first, found.stop, truth)
    return BestIou(largest[at], any_contour[at])


def largest_box(score_map: Float[np.ndarray, "h w"], tau: float) -> Int[np.ndarray, " 4"]:
    """Box ``x0, y0, x1, y1`` of the contour of largest area at one threshold, for pictures."""
    levels = quantise(score_map)
    return contours(levels).largest[level_thresholds(np.array([tau]), levels)[0]]


def quantise(score_map: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The map in 8 bits, ``floor(255 s)``, the product in float64."""
    return (np.asarray(score_map, np.float64) * (LEVELS - 1)).astype(np.uint8)


def level_thresholds(taus: Float[np.ndarray, " t"], levels: UInt8[np.ndarray, "h w"]) -> Int[np.ndarray, " t"]:
    """Thresholds on a map's levels, ``floor(tau * levels.max())``, the product in float64."""
    return (taus * int(levels.max())).astype(np.int64)


def box_iou(a: Int[np.ndarray, "n 4"], b: Int[np.ndarray, "k 4"]) -> Float[np.ndarray, "n k"]:
    """Intersection over union of boxes of inclusive pixels: sides and overlaps are ``last - first + 1``."""
    return _box_iou(np.ascontiguousarray(a, np.int64), np.ascontiguousarray(b, np.int64))


@compiled
@no_type_check
def _iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    overlap = width * height
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    union = area_a + area_b - overlap
    return overlap / union if union > 0 else 0.0


@compiled
@no_type_check
def _box_iou(a, b):
    iou = np.empty((a.shape[0], b.shape[0]))
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            iou[i, j] = _iou(a[i], b[j])
    return iou


@compiled
@no_type_check
def _best_per_box(boxes, truth):
    best = np.zeros(boxes.shape[0])
    for i in range(boxes.shape[0]):
        for j in range(truth.shape[0]):
            best[i] = max(best[i], _iou(boxes[i], truth[j]))
    return best


@compiled
@no_type_check
def _best_per_threshold(boxes, first, stop, truth):
    iou = _best_per_box(boxes, truth)
    best = np.full(LEVELS, -1.0)
    for i in range(boxes.shape[0]):
        for t in range(first[i], stop[i]):
            best[t] = max(best[t], iou[i])
    nothing = _best_per_box(np.zeros((1, 4), np.int64), truth)[0]
    for t in range(LEVELS):
        if best[t] < 0:
            best[t] = nothing
    return best
