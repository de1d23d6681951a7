"""All contours of an 8-bit map at all thresholds at once, in a time that hardly depends on the map.

A pixel is foreground at threshold t when its level is above t. As t falls, components of the foreground only appear,
grow and merge, and so do holes as t rises; one union-find pass over the pixels in order of their level therefore
meets every component with the range of thresholds over which it stays the same. In: a map of levels; out: the boxes
that OpenCV's ``findContours`` (RETR_TREE) would give at each threshold, and the contour of largest area.
"""

import dataclasses
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Int, UInt8

LEVELS = 256

# `no_type_check` below keeps the shape checker of the tests from wrapping a function that numba has to compile.
compiled = numba.njit(cache=True, nogil=True)


@dataclasses.dataclass(frozen=True)
class Contours:
    """Contours of a map, each with the thresholds ``first <= t < stop`` at which it exists, in no particular order.

    Attributes:
      boxes: corners ``x0, y0, x1, y1``; x1, y1 are one past the last pixel, or the map's last pixel if that is less.
      first: lowest threshold of each contour.
      stop: threshold above its highest.
    """

    boxes: Int[np.ndarray, "n 4"]
    first: Int[np.ndarray, " n"]
    stop: Int[np.ndarray, " n"]


def contours(levels: UInt8[np.ndarray, "h w"]) -> Contours:
    """Outer contours of 8-connected foreground components, and contours of the holes in them.

    A hole is a 4-connected background component that does not reach the map's edge; its contour runs through the
    foreground around it, one pixel outside.
    """
    shape = levels.shape
    no_weight = np.zeros(shape, np.int32)
    outer_boxes, outer_life, _ = _components(*_foreground_life(levels), no_weight, True)
    hole_boxes, hole_life, _ = _components(levels.astype(np.int16), fill_holes(levels).astype(np.int16), no_weight, False)
    return Contours(
        np.concatenate([_contour_boxes(outer_boxes, 0, shape), _contour_boxes(hole_boxes, 1, shape)]),
        np.concatenate([LEVELS - outer_life[:, 1], hole_life[:, 0]]),
        np.concatenate([LEVELS - outer_life[:, 0], hole_life[:, 1]]),
    )


def largest_contours(levels: UInt8[np.ndarray, "h w"]) -> Int[np.ndarray, "256 4"]:
    """Box of the contour of largest area at every threshold; zeros where there is no contour.

    The area is that of the polygon through the centres of the contour's pixels: with the holes filled, the number of
    2x2 blocks of foreground plus half the number of blocks with three foreground pixels. Of equal areas the component
    wins whose first pixel in raster order comes last. Holes and what lies in them are smaller than what encloses them,
    so only the components of the hole-filled map compete.
    """
    filled = fill_holes(levels)
    boxes, life, size = _components(*_foreground_life(filled), _doubled_block_area(filled), True)
    return _largest_per_threshold(_contour_boxes(boxes, 0, levels.shape), life, size)


def _foreground_life(levels):
    """Birth and death of foreground pixels in a time that runs from high thresholds to low: 256 - t."""
    birth = LEVELS - levels.astype(np.int16)
    return birth, np.full_like(birth, LEVELS)


def _contour_boxes(boxes, grow, shape):
    """Boxes of inclusive pixels, grown on every side, with the exclusive and clipped far corner of the protocol."""
    boxes[:, :2] -= grow
    boxes[:, 2:] += grow + 1
    np.minimum(boxes[:, 2], shape[1] - 1, out=boxes[:, 2])
    np.minimum(boxes[:, 3], shape[0] - 1, out=boxes[:, 3])
    return boxes


@compiled
@no_type_check
def fill_holes(levels):
    """Lowest level over which each pixel drains to the map's edge; above ``levels`` inside holes only.

    A pixel belongs to a hole at threshold t when ``levels <= t < filled``. Priority flood: pixels are taken from the
    edge inwards, lowest level first, with one stack per level.
    """
    height, width = levels.shape
    filled = np.zeros((height, width), levels.dtype)
    seen = np.zeros(height * width, np.bool_)
    below = np.empty(height * width, np.int32)
    top = np.full(LEVELS, -1, np.int32)
    for y in range(height):
        for x in range(width):
            if y == 0 or x == 0 or y == height - 1 or x == width - 1:
                p = y * width + x
                filled[y, x] = levels[y, x]
                seen[p] = True
                below[p] = top[levels[y, x]]
                top[levels[y, x]] = p
    for level in range(LEVELS):
        while top[level] >= 0:
            p = top[level]
            top[level] = below[p]
            y, x = p // width, p % width
            for dy, dx in ((0, -1), (0, 1), (-1, 0), (1, 0)):
                ny, nx = y + dy, x + dx
                n = ny * width + nx
                if 0 <= ny < height and 0 <= nx < width and not seen[n]:
                    reached = max(level, levels[ny, nx])
                    filled[ny, nx] = reached
                    seen[n] = True
                    below[n] = top[reached]
                    top[reached] = n
    return filled


@compiled
@no_type_check
def _doubled_block_area(levels):
    """Twice the area that each pixel adds to its component when it joins as the third or fourth pixel of a block."""
    height, width = levels.shape
    area = np.zeros((height, width), np.int32)
    for y in range(height - 1):
        for x in range(width - 1):
            a, b = 4 * levels[y, x], 4 * levels[y, x + 1] + 1
            c, d = 4 * levels[y + 1, x] + 2, 4 * levels[y + 1, x + 1] + 3
            fourth = min(a, b, c, d) & 3
            third = min(max(min(a, b), min(c, d)), max(a, b), max(c, d)) & 3
            area[y + third // 2, x + third % 2] += 1
            area[y + fourth // 2, x + fourth % 2] += 1
    return area


@compiled
@no_type_check
def _find(parent, p):
    while parent[p] != p:
        parent[p] = parent[parent[p]]
        p = parent[p]
    return p


@compiled
@no_type_check
def _components(birth, death, weight, diagonal):
    """Every connected set of pixels that exists at some time.

    Args:
      birth: time at which each pixel appears, 0 to 256.
      death: time at which its final component ends; a pixel with ``death <= birth`` never appears.
      weight: what each pixel adds to its component's weight.
      diagonal: whether pixels also touch across corners.

    Returns:
      Inclusive pixel boxes (n 4), lives (n 2) as ``birth <= time < death``, and (n 2) weight and first raster index.
    """
    height, width = birth.shape
    # One pixel of frame all around, which never appears, stands in for the checks at the edges.
    stride = width + 2
    steps = np.array([-1, 1, -stride, stride, -stride - 1, -stride + 1, stride - 1, stride + 1])
    if not diagonal:
        steps = steps[:4]

    start = np.zeros(LEVELS + 2, np.int32)
    for y in range(height):
        for x in range(width):
            if birth[y, x] < death[y, x]:
                start[birth[y, x] + 1] += 1
    start = np.cumsum(start)
    order = np.empty(start[-1], np.int32)
    cursor = start.copy()
    for y in range(height):
        for x in range(width):
            if birth[y, x] < death[y, x]:
                order[cursor[birth[y, x]]] = (y + 1) * stride + x + 1
                cursor[birth[y, x]] += 1

    parent = np.full((height + 2) * stride, -1, np.int32)
    # Of each root: pixels, time of last change, weight, first pixel, left, right, bottom.
    state = np.empty((parent.size, 7), np.int32)
    boxes = np.empty((order.size, 4), np.int32)
    life = np.empty((order.size, 2), np.int32)
    size = np.empty((order.size, 2), np.int32)
    count = 0
    for time in range(LEVELS + 1):
        for k in range(start[time], start[time + 1]):
            p = order[k]
            y, x = p // stride - 1, p % stride - 1
            parent[p] = p
            state[p, 0] = 1
            state[p, 1] = time
            state[p, 2] = weight[y, x]
            state[p, 3] = y * width + x
            state[p, 4] = x
            state[p, 5] = x
            state[p, 6] = y
            root = p
            for step in steps:
                if parent[p + step] < 0:
                    continue
                other = _find(parent, p + step)
                if other == root:
                    continue
                if state[other, 1] < time:
                    _record(state[other], width, time, boxes[count], life[count], size[count])
                    count += 1
                if state[other, 0] > state[root, 0]:
                    root, other = other, root
                parent[other] = root
                _merge(state[root], state[other], time)
    for p in order:
        if parent[p] == p:
            _record(state[p], width, death[p // stride - 1, p % stride - 1], boxes[count], life[count], size[count])
            count += 1
    return boxes[:count], life[:count], size[:count]


@compiled
@no_type_check
def _merge(root, other, time):
    root[0] += other[0]
    root[1] = time
    root[2] += other[2]
    root[3] = min(root[3], other[3])
    root[4] = min(root[4], other[4])
    root[5] = max(root[5], other[5])
    root[6] = max(root[6], other[6])


@compiled
@no_type_check
def _record(state, width, end, box, life, size):
    box[0], box[1], box[2], box[3] = state[4], state[3] // width, state[5], state[6]
    life[0], life[1] = state[1], end
    size[0], size[1] = state[2], state[3]


@compiled
@no_type_check
def _largest_per_threshold(boxes, life, size):
    best = np.full((LEVELS, 2), -1, np.int32)
    box = np.zeros((LEVELS, 4), np.int32)
    for i in range(boxes.shape[0]):
        for t in range(LEVELS - life[i, 1], LEVELS - life[i, 0]):
            if size[i, 0] > best[t, 0] or (size[i, 0] == best[t, 0] and size[i, 1] > best[t, 1]):
                best[t] = size[i]
                box[t] = boxes[i]
    return box
