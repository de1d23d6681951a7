"""All contours of an 8-bit map at all thresholds at once, in a time that hardly depends on the map.

A pixel is foreground at threshold t when its level is above t. As t falls, components of the foreground only appear,
grow and merge, and so do holes as t rises; one union-find pass over the pixels in order of their level therefore
meets every component together with the thresholds at which it stays the same. In: a map of levels; out: the boxes
that OpenCV's ``findContours`` (RETR_TREE) would give at each threshold, and the one around the largest area.
"""

import dataclasses
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Int, UInt8

LEVELS = 256

# `no_type_check` below keeps the shape checker of the tests from wrapping functions that numba has to compile.
compiled = numba.njit(cache=True, nogil=True)


@dataclasses.dataclass(frozen=True)
class Contours:
    """Boxes of a map's contours at every threshold; a corner ``x1, y1`` is one past the last pixel, unless clipped.

    Attributes:
      boxes: ``x0, y0, x1, y1`` of every contour, in no particular order.
      first: lowest threshold at which each contour exists.
      stop: threshold above the highest.
      largest: box of the contour of largest area at each threshold, zeros where there is no contour.
    """

    boxes: Int[np.ndarray, "n 4"]
    first: Int[np.ndarray, " n"]
    stop: Int[np.ndarray, " n"]
    largest: Int[np.ndarray, "256 4"]


def contours(levels: UInt8[np.ndarray, "h w"]) -> Contours:
    """Outer contours of 8-connected foreground components, and contours of the holes in them.

    A hole is a 4-connected background component that does not reach the map's edge; its contour runs through the
    foreground around it, one pixel outside. A contour's area is that of the polygon through the centres of its pixels:
    with holes filled, the number of 2x2 blocks of foreground plus half the number of blocks with three foreground
    pixels. Of equal areas the component wins whose first pixel in raster order comes last. A hole and what lies in it
    have no more area than what encloses them, so only components of the hole-filled map compete for the largest.
    """
    # A frame that is never foreground and never a hole spares the loops below all checks at the map's edge.
    padded = np.pad(levels, 1).astype(np.int32)
    filled = _fill_holes(padded)
    area = _doubled_area(filled)
    no_area = np.zeros_like(area)
    end = np.full_like(padded, LEVELS)
    # Foreground appears as the threshold falls: its time is 256 - t. The time of holes is t itself.
    outer, outer_life, _ = _components(LEVELS - padded, end, no_area, True)
    holes, hole_life, _ = _components(padded, filled, no_area, False)
    solid, solid_life, solid_size = _components(LEVELS - filled, end, area, True)
    return Contours(
        np.concatenate([_contour_boxes(outer, 0, levels.shape), _contour_boxes(holes, 1, levels.shape)]),
        np.concatenate([LEVELS - outer_life[:, 1], hole_life[:, 0]]),
        np.concatenate([LEVELS - outer_life[:, 0], hole_life[:, 1]]),
        _largest(_contour_boxes(solid, 0, levels.shape), solid_life, solid_size),
    )


def _contour_boxes(boxes, grow, shape):
    """Contour boxes from inclusive boxes of padded pixels, grown on every side."""
    x0, y0, x1, y1 = boxes.T
    return np.stack(
        [x0 - 1 - grow, y0 - 1 - grow, np.minimum(x1 + grow, shape[1] - 1), np.minimum(y1 + grow, shape[0] - 1)], axis=1
    )


@compiled
@no_type_check
def _fill_holes(levels):
    """Lowest level over which each pixel of a padded map drains to the frame; above ``levels`` inside holes only.

    A pixel lies in a hole at threshold t when ``levels <= t < filled``. Priority flood from the edge inwards: always
    the lowest pixel next, with one stack per level.
    """
    height, width = levels.shape
    level = levels.ravel()
    filled = np.zeros(level.size, level.dtype)
    below = np.empty(level.size, np.int32)
    top = np.full(LEVELS, -1, np.int32)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            p = y * width + x
            if y == 1 or x == 1 or y == height - 2 or x == width - 2:
                filled[p] = level[p]
                below[p] = top[level[p]]
                top[level[p]] = p
            else:
                filled[p] = -1
    for t in range(LEVELS):
        while top[t] >= 0:
            p = top[t]
            top[t] = below[p]
            for n in (p - 1, p + 1, p - width, p + width):
                if filled[n] < 0:
                    filled[n] = max(t, level[n])
                    below[n] = top[filled[n]]
                    top[filled[n]] = n
    return filled.reshape(height, width)


@compiled
@no_type_check
def _doubled_area(levels):
    """Twice the area that each pixel adds to its component by being the third or fourth to join a 2x2 block."""
    height, width = levels.shape
    area = np.zeros_like(levels)
    for y in range(height - 1):
        for x in range(width - 1):
            # The last two bits remember which pixel it is, and settle ties.
            a, b = 4 * levels[y, x], 4 * levels[y, x + 1] + 1
            c, d = 4 * levels[y + 1, x] + 2, 4 * levels[y + 1, x + 1] + 3
            fourth = min(a, b, c, d) & 3
            third = min(max(min(a, b), min(c, d)), max(a, b), max(c, d)) & 3
            area[y + third // 2, x + third % 2] += 1
            area[y + fourth // 2, x + fourth % 2] += 1
    return area


# Columns of what is kept of each component while it grows.
_PIXELS, _CHANGED, _AREA, _FIRST, _LEFT, _RIGHT, _BOTTOM = range(7)


@compiled
@no_type_check
def _components(birth, death, area, corners):
    """Every connected set of pixels that exists at some time, in padded maps.

    Args:
      birth: time at which each pixel appears, from 0.
      death: time at which the component that it ends in is gone; a pixel with ``death <= birth`` never appears.
      area: what each pixel adds to its component's area.
      corners: whether pixels also touch across corners.

    Returns:
      Inclusive boxes (n 4), lives (n 2) with ``life[0] <= time < life[1]``, and (n 2) area and first raster index.
    """
    width = birth.shape[1]
    steps = np.array([-width, width, -1, 1, -width - 1, -width + 1, width - 1, width + 1])
    order, start = _order_of_birth(birth, death)
    state = _single_pixels(birth, area)
    parent = np.full(birth.size, -1, np.int32)
    boxes = np.empty((order.size, 4), np.int32)
    life = np.empty((order.size, 2), np.int32)
    size = np.empty((order.size, 2), np.int32)
    count = 0
    for time in range(LEVELS + 1):
        for p in order[start[time] : start[time + 1]]:
            parent[p] = p
            root = p
            for i in range(8 if corners else 4):
                # A corner is already joined to a side that touches both it and p.
                if parent[p + steps[i]] < 0 or (
                    i >= 4 and (parent[p + steps[(i - 4) // 2]] >= 0 or parent[p + steps[2 + i % 2]] >= 0)
                ):
                    continue
                other = _find(parent, p + steps[i])
                if other == root:
                    continue
                if state[other, _CHANGED] < time:
                    _record(state[other], width, time, boxes[count], life[count], size[count])
                    count += 1
                if state[other, _PIXELS] > state[root, _PIXELS]:
                    root, other = other, root
                parent[other] = root
                _merge(state[root], state[other], time)
    for p in order:
        if parent[p] == p:
            _record(state[p], width, death.ravel()[p], boxes[count], life[count], size[count])
            count += 1
    return boxes[:count], life[:count], size[:count]


@compiled
@no_type_check
def _order_of_birth(birth, death):
    """Pixels that appear at all, sorted by time (in raster order within one), and where each time starts."""
    births, deaths = birth.ravel(), death.ravel()
    start = np.zeros(LEVELS + 2, np.int32)
    for p in range(births.size):
        if births[p] < deaths[p]:
            start[births[p] + 1] += 1
    start = np.cumsum(start)
    order = np.empty(start[-1], np.int32)
    cursor = start.copy()
    for p in range(births.size):
        if births[p] < deaths[p]:
            order[cursor[births[p]]] = p
            cursor[births[p]] += 1
    return order, start


@compiled
@no_type_check
def _single_pixels(birth, area):
    height, width = birth.shape
    state = np.empty((height, width, 7), np.int32)
    for y in range(height):
        for x in range(width):
            pixel = state[y, x]
            pixel[_PIXELS], pixel[_CHANGED], pixel[_AREA] = 1, birth[y, x], area[y, x]
            pixel[_FIRST], pixel[_LEFT], pixel[_RIGHT], pixel[_BOTTOM] = y * width + x, x, x, y
    return state.reshape(-1, 7)


@compiled
@no_type_check
def _find(parent, p):
    while parent[p] != p:
        parent[p] = parent[parent[p]]
        p = parent[p]
    return p


@compiled
@no_type_check
def _merge(root, other, time):
    root[_PIXELS] += other[_PIXELS]
    root[_CHANGED] = time
    root[_AREA] += other[_AREA]
    root[_FIRST] = min(root[_FIRST], other[_FIRST])
    root[_LEFT] = min(root[_LEFT], other[_LEFT])
    root[_RIGHT] = max(root[_RIGHT], other[_RIGHT])
    root[_BOTTOM] = max(root[_BOTTOM], other[_BOTTOM])


@compiled
@no_type_check
def _record(state, width, end, box, life, size):
    box[0], box[1], box[2], box[3] = state[_LEFT], state[_FIRST] // width, state[_RIGHT], state[_BOTTOM]
    life[0], life[1] = state[_CHANGED], end
    size[0], size[1] = state[_AREA], state[_FIRST]


@compiled
@no_type_check
def _largest(boxes, life, size):
    best = np.full((LEVELS, 2), -1, np.int32)
    largest = np.zeros((LEVELS, 4), np.int32)
    for i in range(len(boxes)):
        for t in range(LEVELS - life[i, 1], LEVELS - life[i, 0]):
            if size[i, 0] > best[t, 0] or (size[i, 0] == best[t, 0] and size[i, 1] > best[t, 1]):
                best[t] = size[i]
                largest[t] = boxes[i]
    return largest
