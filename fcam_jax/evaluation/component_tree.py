"""All contours of an 8-bit map at all thresholds at once, in a time that hardly depends on the map.

A pixel is foreground at threshold t when its level is above t. As t falls, components of the foreground only appear,
grow and merge, and so do holes as t rises; one union-find pass over the pixels in order of their level therefore
meets every component together with the thresholds at which it stays the same. In: a map of levels; out: the boxes that
OpenCV's ``findContours`` (RETR_TREE) would give at each threshold, and the one around the largest area.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Int, UInt8

from fcam_jax.runtime.compiled import compiled

LEVELS = 256
_TIMES = LEVELS - 1  # a pixel joins a growing set at time 0, 1, ... below it

# What is kept of a component: its inclusive box, doubled area and first pixel in raster order, and the times from
# which and before which they are so.
_X0, _Y0, _X1, _Y1, _AREA, _FIRST, _SINCE, _UNTIL = range(8)
_BOX = slice(_X0, _Y1 + 1)


class Contours(NamedTuple):
    """Boxes of a map's contours at every threshold; a corner ``x1, y1`` is one past the last pixel, unless clipped."""

    boxes: Int[np.ndarray, "n 4"]  # x0, y0, x1, y1 of every contour, in no particular order
    first: Int[np.ndarray, " n"]  # lowest threshold at which each contour exists
    stop: Int[np.ndarray, " n"]  # threshold above the highest
    largest: Int[np.ndarray, "256 4"]  # that of largest area at each threshold, zeros where there is no contour


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
    holes = _components(padded, corners=False)
    filled = _fill(padded, holes[:, _FIRST], holes[:, _UNTIL])
    largest = _largest(_components(_TIMES - filled, corners=True, area=True), *levels.shape)
    outer = _components(_TIMES - padded, corners=True)
    boxes = [_contour_boxes(found[:, _BOX], grow, *levels.shape) for found, grow in ((outer, 0), (holes, 1))]
    return Contours(
        np.concatenate(boxes),
        np.concatenate([_TIMES - outer[:, _UNTIL], holes[:, _SINCE]]),
        np.concatenate([_TIMES - outer[:, _SINCE], holes[:, _UNTIL]]),
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


def _components(time, corners, area=False):
    """Every connected set of pixels that exists at some time, but for the one that the frame is in.

    `time` is when each pixel of a padded map appears; outside of ``0 <= time < _TIMES``, never, but that a frame below
    0 is there from the start. `corners` says whether pixels touch across these, too. There is a row for every component
    and every span of time in which it stays as it is, in the order in which they end.
    """
    order = np.argsort(time.ravel(), kind="stable").astype(np.int32)
    there = np.searchsorted(time.ravel()[order], (0, _TIMES))
    return _grow(time, order[slice(*there)], corners, area)


@compiled
@no_type_check
def _grow(time, order, corners, area):
    width, flat = time.shape[1], time.ravel()
    # A neighbour with an even position in the ring touches across a side.
    ring = np.array([1, 1 - width, -width, -width - 1, -1, width - 1, width, width + 1])
    before = np.zeros(8, np.bool_)  # which neighbours are there, of equal times those earlier in raster order
    parent = np.zeros(flat.size, np.int32)  # or ~i for a root, whose component is in row i of the state
    parent[0] = ~0  # root of the frame, of which nothing is recorded: it has not existed before any time
    state, roots = np.empty((order.size + 1, 8), np.int32), 1
    state[0] = _TIMES
    records, count = np.empty((order.size, 8), np.int32), 0
    for p in order:
        now = flat[p]
        y = np.uint32(p) // np.uint32(width)
        x = np.uint32(p) - y * np.uint32(width)
        root = -1
        for k in range(8):
            q = p + ring[k]
            before[k] = flat[q] < now + (q < p)
            if not before[k] or not (corners or k % 2 == 0):
                continue
            other = _find(parent, q)
            if root < 0:
                root = other
            elif other != root:
                # The frame's root is the first pixel, and so remains one.
                root, other = min(root, other), max(root, other)
                i, j = ~parent[root], ~parent[other]
                count = _record(records, count, state, i, now)
                count = _record(records, count, state, j, now)
                state[i, _AREA] += state[j, _AREA]
                _extend(state, i, state[j, _X0], state[j, _Y0], state[j, _X1], state[j, _Y1], state[j, _FIRST])
                parent[other] = root
        if root < 0:
            parent[p] = ~roots
            state[roots] = np.array([x, y, x, y, 0, p, now, 0], np.int32)
            roots += 1
            continue
        parent[p] = root
        i, gain = ~parent[root], 0
        if area:  # of each of the four 2x2 blocks with the pixel in which it is the third or fourth
            for k in range(0, 8, 2):
                gain += before[k] + before[k + 1] + before[(k + 2) % 8] >= 2
        inside = state[i, _X0] <= x <= state[i, _X1] and state[i, _Y0] <= y <= state[i, _Y1]
        if gain or not inside or (area and p < state[i, _FIRST]):
            count = _record(records, count, state, i, now)
            state[i, _AREA] += gain
            _extend(state, i, x, y, x, y, p)
    for p in order:
        if parent[p] < 0:
            count = _record(records, count, state, ~parent[p], _TIMES)
    return records[:count].copy()


@compiled
@no_type_check
def _find(parent, p):
    """Root of a pixel; halves the path to it."""
    above = parent[p]
    while above >= 0:
        if parent[above] < 0:
            return above
        parent[p] = parent[above]
        p = parent[p]
        above = parent[p]
    return p


@compiled
@no_type_check
def _extend(state, i, x0, y0, x1, y1, first):
    state[i, _X0] = min(state[i, _X0], x0)
    state[i, _Y0] = min(state[i, _Y0], y0)
    state[i, _X1] = max(state[i, _X1], x1)
    state[i, _Y1] = max(state[i, _Y1], y1)
    state[i, _FIRST] = min(state[i, _FIRST], first)


@compiled
@no_type_check
def _record(records, count, state, i, now):
    """Record a component that is about to change as it has been until now, if it has been at all."""
    if state[i, _SINCE] >= now:
        return count
    for column in range(_UNTIL):
        records[count, column] = state[i, column]
    records[count, _UNTIL] = now
    state[i, _SINCE] = now
    return count + 1


def _contour_boxes(boxes, grow, height, width):
    """Boxes of contours that run ``grow`` pixels outside of the boxes of components of a padded map."""
    return np.minimum(np.add(boxes, (-1 - grow, -1 - grow, grow, grow)), (width, height, width - 1, height - 1))


def _largest(solid, height, width):
    """Box of the component of largest area at each threshold; of equal areas the one that starts last."""
    size = solid[:, _AREA].astype(np.int64) * ((height + 2) * (width + 2)) + solid[:, _FIRST]
    best = best_alive(size, _TIMES - solid[:, _UNTIL], _TIMES - solid[:, _SINCE])
    largest = np.zeros((LEVELS, 4), np.int32)
    largest[best >= 0] = _contour_boxes(solid[best[best >= 0], _BOX], 0, height, width)
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
