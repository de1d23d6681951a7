"""Overlap of the boxes that a score map gives, at every threshold, with the ground truth boxes.

In: a score map, ground truth boxes and thresholds; out: per threshold the best IoU of the largest contour's box and of
any contour's box, from which every box metric follows. Choe et al., CVPR 2020, Sec. 4.1 and appendix.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Int, UInt8

from fcam_jax.evaluation.component_tree import LEVELS, best_alive, contours
from fcam_jax.runtime.compiled import compiled


class BestIou(NamedTuple):
    """Best IoU over the ground truth boxes at every threshold."""

    largest: Float[np.ndarray, " t"]  # of the box around the contour of largest area
    any_contour: Float[np.ndarray, " t"]  # of the box around any contour, holes included


def best_iou(
    score_map: Float[np.ndarray, "h w"], truth: Int[np.ndarray, "n 4"], taus: Float[np.ndarray, " t"]
) -> BestIou:
    """Best IoU of predicted with ground truth boxes at every threshold; pure, and free of the interpreter lock.

    At threshold $\\tau$ the foreground is $q > \\lfloor \\tau \\max q \\rfloor$ with $q$ the map in 8 bits. Where
    nothing is foreground the predicted box is ``[0, 0, 0, 0]``. Map and thresholds are in [0, 1]; boxes, at least one,
    are inclusive pixel corners ``x0, y0, x1, y1``.
    """
    levels = quantise(score_map)
    at = level_thresholds(taus, levels)
    truth = np.ascontiguousarray(truth, np.int64)
    found = contours(levels)
    iou = _best_iou(found.boxes, truth)
    best = best_alive(iou, found.first, found.stop)
    # Where there is no contour the best one is -1, for which the zero box stands at the end.
    iou = np.append(iou, _best_iou(np.zeros((1, 4), np.int32), truth))
    return BestIou(_best_iou(found.largest, truth)[at], iou[best][at])


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
def _iou(a, i, b, j):
    width = min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0]) + 1
    height = min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area_a = (a[i, 2] - a[i, 0] + 1) * (a[i, 3] - a[i, 1] + 1)
    area_b = (b[j, 2] - b[j, 0] + 1) * (b[j, 3] - b[j, 1] + 1)
    return width * height / (area_a + area_b - width * height)


@compiled
@no_type_check
def _box_iou(a, b):
    iou = np.empty((a.shape[0], b.shape[0]))
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            iou[i, j] = _iou(a, i, b, j)
    return iou


@compiled
@no_type_check
def _best_iou(boxes, truth):
    best = np.zeros(boxes.shape[0])
    for i in range(boxes.shape[0]):
        for j in range(truth.shape[0]):
            best[i] = max(best[i], _iou(boxes, i, truth, j))
    return best
