"""All contours of an 8-bit map at all thresholds at once, in a time that hardly depends on the map.

A pixel is foreground at threshold t when its level is above t. As t falls, components of the foreground only appear,
grow and merge, and so do holes as t rises; one union-find pass over the pixels in order of their level therefore
meets every component together with the thresholds at which it stays the same. Most pixels only join the component
amid which they appear, and are passed over. In: a map of levels; out: the boxes that OpenCV's ``findContours``
(RETR_TREE) would give at each threshold, and the one around the largest area.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Int, UInt8

from fcam_jax.evaluation.components import AREA, BOX, FIRST, SINCE, TIMES, UNTIL, components
from fcam_jax.evaluation.neighbour_patterns import tables
from fcam_jax.runtime.compiled import compiled

LEVELS = 256


class Contours(NamedTuple):
    """Boxes of a map's contours at every threshold; a corner ``x1, y1`` is one past the last pixel, unless clipped."""

    boxes: Int[np.ndarray, "n 4"]  # x0, y0, x1, y1 of every contour, in no particular order
    first: Int[np.ndarray, " n"]  # lowest threshold at which each contour exists
    stop: Int[np.ndarray, " n"]  # threshold above the highest
    largest: Int[np.ndarray, "256 4"]  # that of largest area at each threshold, zeros where there is no contour


_OUTER, _HOLES, _SOLID = tables(True, False), tables(False, False), tables(True, True)


def contours(levels: UInt8[np.ndarray, "h w"]) -> Contours:
    """Outer contours of 8-connected foreground components, and contours of the holes in them.

    A hole is a 4-connected background component that does not reach the map's edge; its contour runs through the
    foreground around it, one pixel outside. A contour's area is that of the polygon through the centres of its pixels:
    with holes filled, the number of 2x2 blocks of foreground plus half the number of blocks with three foreground
    pixels. Of equal areas the component wins whose first pixel in raster order comes last. A hole and what lies in it
    have no more area than what encloses them, so only components of the hole-filled map compete for the largest.
    """
    # A frame that is never foreground and never a hole spares the loops below all checks at the map's edge.
    padded = np.pad(levels.astype(np.int16), 1, constant_values=-1)
    # Holes grow as the threshold rises, at time t = level; the foreground grows as it falls, at time 255 - level.
    holes = components(padded, _HOLES)
    largest = _largest(components(TIMES - _fill(padded, holes[:, FIRST], holes[:, UNTIL]), _SOLID), *levels.shape)
    outer = components(TIMES - padded, _OUTER)
    boxes = [_contour_boxes(found[:, BOX], grow, *levels.shape) for found, grow in ((outer, 0), (holes, 1))]
    return Contours(
        np.concatenate(boxes),
        np.concatenate([TIMES - outer[:, UNTIL], holes[:, SINCE]]),
        np.concatenate([TIMES - outer[:, SINCE], holes[:, UNTIL]]),
        largest,
    )


# Exponent of the largest power of two in a number of thresholds.
_POWER = np.array([max(0, n.bit_length() - 1) for n in range(LEVELS + 1)])


@compiled
@no_type_check
def best_alive(values, first, stop):
    """Position of the largest value with ``first <= t < stop`` for every threshold t, -1 where there is none.

    A range is the union of two whose length is a power of two: values are entered there, then handed down by halves.
    """
    best = np.full((9, LEVELS), -1, np.int32)
    for i in range(len(values)):
        power = _POWER[stop[i] - first[i]]
        for t in (np.int64(first[i]), stop[i] - (1 << power)):
            if best[power, t] < 0 or values[best[power, t]] < values[i]:
                best[power, t] = i
    for power in range(8, 0, -1):
        for start in range(LEVELS + 1 - (1 << power)):
            i = best[power, start]
            for t in (start, start + (1 << power - 1)):
                if i >= 0 and (best[power - 1, t] < 0 or values[best[power - 1, t]] < values[i]):
                    best[power - 1, t] = i
    return best[0]


@compiled
@no_type_check
def _contour_boxes(boxes, grow, height, width):
    """Boxes of contours that run ``grow`` pixels outside of the boxes of components of a padded map."""
    result = np.empty((len(boxes), 4), np.int32)
    for i in range(len(boxes)):
        result[i, 0] = boxes[i, 0] - 1 - grow
        result[i, 1] = boxes[i, 1] - 1 - grow
        result[i, 2] = min(boxes[i, 2] + grow, width - 1)
        result[i, 3] = min(boxes[i, 3] + grow, height - 1)
    return result


def _largest(solid, height, width):
    """Box of the component of largest area at each threshold; of equal areas the one that starts last."""
    size = solid[:, AREA].astype(np.int64) * ((height + 2) * (width + 2)) + solid[:, FIRST]
    best = best_alive(size, TIMES - solid[:, UNTIL], TIMES - solid[:, SINCE])
    largest = np.zeros((LEVELS, 4), np.int32)
    largest[best >= 0] = _contour_boxes(solid[best[best >= 0], BOX], 0, height, width)
    return largest


@compiled
@no_type_check
def _fill(levels, pixels, ends):
    """The padded map with every hole filled up to the level over which it drains to the frame.

    Of every hole as it is for some thresholds, `pixels` has one pixel and `ends` the threshold at which it grows, is
    joined to another or ends, ascending. So the last hole that a pixel is in is that in which it drains to the frame,
    and all pixels of that hole are below its end.
    """
    width = levels.shape[1]
    filled = levels.copy()
    level = filled.ravel()
    stack = np.empty(level.size, np.int32)
    for hole in range(len(pixels) - 1, -1, -1):
        rim = ends[hole]
        stack[0] = pixels[hole]
        height = 0
        if level[stack[0]] < rim:
            level[stack[0]] = rim
            height = 1
        while height > 0:
            height -= 1
            p = stack[height]
            for q in (p - 1, p + 1, p - width, p + width):
                if level[q] < rim:
                    level[q] = rim
                    stack[height] = q
                    height += 1
    return filled
