"""Overlap of the boxes that a score map gives, at every threshold, with the ground truth boxes.

In: a score map, ground truth boxes and thresholds; out: per threshold the best IoU of the largest contour's box and of
any contour's box, from which every box metric follows. Choe et al., CVPR 2020, Sec. 4.1 and appendix.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from fcam_jax.evaluation.component_tree import LEVELS, best_alive, contours


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
    at, found = level_thresholds(taus, levels), contours(levels)
    # Where there is no contour the best one is -1, for which the zero box stands at the end.
    iou = box_iou(np.vstack([found.boxes, np.zeros((1, 4), np.int32)]), truth).max(axis=1)
    best = best_alive(iou[:-1], found.first, found.stop)
    return BestIou(box_iou(found.largest, truth).max(axis=1)[at], iou[best][at])


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
    a, b = a.astype(np.int64), b.astype(np.int64)
    first, last = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.maximum(last - first + 1, 0).prod(axis=-1)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=-1) for boxes in (a, b))
    return overlap / np.where(overlap > 0, area_a[:, None] + area_b - overlap, 1)
