"""All contours of an 8-bit map at all thresholds at once, in a time that hardly depends on the map.

A pixel is foreground at threshold t when its level is above t. As t falls, components of the foreground only appear,
grow and merge, and so do holes as t rises; one union-find pass over the pixels in order of their level therefore
meets every component together with the thresholds at which it stays the same. Most pixels only join the component
amid which they appear, and are passed over. In: a map of levels; out: the boxes that OpenCV's ``findContours``
(RETR_TREE) would give at each threshold, and the one around the largest area.
"""

import dataclasses
from typing import no_type_check

import numpy as np
from jaxtyping import Int, UInt8

from fcam_jax.evaluation.neighbour_patterns import compiled, neighbour_patterns, ring_steps, tables

LEVELS = 256


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


_OUTER, _HOLES, _SOLID = tables(True, False), tables(False, False), tables(True, True)

# What is kept of a component: its inclusive box, doubled area and first pixel, and the times from which and before
# which they are so.
_X0, _Y0, _X1, _Y1, _AREA, _FIRST, _SINCE, _UNTIL = range(8)


# Largest power of two in a number of thresholds.
_POWER = np.array([0] + [n.bit_length() - 1 for n in range(1, LEVELS + 1)])


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
    # A hole grows as the threshold rises: its time is t. The foreground grows as it falls: a time of 255 - level.
    holes = _components(padded, _HOLES)
    outer = _components(LEVELS - 1 - padded, _OUTER)
    solid = _components(LEVELS - 1 - _fill(padded, holes), _SOLID)
    return Contours(
        np.concatenate([_contour_boxes(outer, 0, *levels.shape), _contour_boxes(holes, 1, *levels.shape)]),
        np.concatenate([LEVELS - 1 - outer[:, _UNTIL], holes[:, _SINCE]]),
        np.concatenate([LEVELS - 1 - outer[:, _SINCE], holes[:, _UNTIL]]),
        _largest(solid, *levels.shape),
    )


@compiled
@no_type_check
def best_alive(values, first, stop):
    """Position of the largest value with ``first <= t < stop`` for every threshold t, -1 where there is none.

    A range is the union of two whose length is a power of two: values are entered there, then handed down by halves.
    """
    best = np.full((9, LEVELS + 1), -1, np.int32)
    for i in range(len(values)):
        power = _POWER[stop[i] - first[i]]
        _enter(best[power], first[i], i, values)
        _enter(best[power], stop[i] - (1 << power), i, values)
    for power in range(8, 0, -1):
        for t in range(LEVELS + 1 - (1 << power)):
            if best[power, t] >= 0:
                _enter(best[power - 1], t, best[power, t], values)
                _enter(best[power - 1], t + (1 << power - 1), best[power, t], values)
    return best[0, :LEVELS]


@compiled
@no_type_check
def _enter(best, t, i, values):
    if best[t] < 0 or values[best[t]] < values[i]:
        best[t] = i


@compiled
@no_type_check
def _contour_boxes(records, grow, height, width):
    """Boxes of contours that run ``grow`` pixels outside of components of a padded map."""
    boxes = np.empty((len(records), 4), np.int32)
    for i in range(len(records)):
        boxes[i, 0] = records[i, _X0] - 1 - grow
        boxes[i, 1] = records[i, _Y0] - 1 - grow
        boxes[i, 2] = min(records[i, _X1] + grow, width - 1)
        boxes[i, 3] = min(records[i, _Y1] + grow, height - 1)
    return boxes


def _largest(solid, height, width):
    """Box of the component of largest area at each threshold; of equal areas the one that starts last."""
    size = solid[:, _AREA].astype(np.int64) * ((height + 2) * (width + 2)) + solid[:, _FIRST]
    best = best_alive(size, LEVELS - 1 - solid[:, _UNTIL], LEVELS - 1 - solid[:, _SINCE])
    largest = np.zeros((LEVELS, 4), np.int32)
    largest[best >= 0] = _contour_boxes(solid[best[best >= 0]], 0, height, width)
    return largest


@compiled
@no_type_check
def _fill(levels, holes):
    """The padded map with every hole filled up to the level over which it drains to the frame.

    A hole's last record comes after those of its parts, and all its pixels are below the level at which it ended.
    """
    width = levels.shape[1]
    filled = levels.copy()
    level = filled.ravel()
    stack = np.empty(level.size, np.int32)
    for hole in range(len(holes) - 1, -1, -1):
        rim = holes[hole, _UNTIL]
        stack[0] = holes[hole, _FIRST]
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


@compiled
@no_type_check
def _components(time, tables):
    """Records of every connected set of pixels that exists at some time from 0 to 254, without the frame's.

    Args:
      time: when each pixel of a padded map appears; at the frame before or after those times.
      tables: what a pixel does when it appears.

    Returns:
      A row for every component and every span of time in which its box and area stay the same, in order of its end.
    """
    width = time.shape[1]
    step = ring_steps(width)
    pattern = neighbour_patterns(time).ravel()
    order, stop = _in_order(time.ravel(), pattern, tables.matters)
    parent, state = _forest(time, pattern, tables, step)
    records = np.empty((order.size, 8), np.int32)
    count = 0
    begin = 0
    for now in range(LEVELS - 1):
        for p in order[begin : stop[now]]:
            role = pattern[p]
            root = _find(parent, p)
            i = ~parent[root]
            if state[i, _SINCE] < now:
                count = _record(records, count, state, i, now)
            state[i, _AREA] += tables.area[role]
            if tables.extends[role]:
                y = np.uint32(p) // np.uint32(width)
                x = np.uint32(p) - y * np.uint32(width)
                _extend(state, i, x, y, x, y, p)
            for arc in range(1, tables.arcs[role]):
                other = _find(parent, p + step[tables.members[role, arc]])
                if other != root:
                    if state[~parent[other], _SINCE] < now:
                        count = _record(records, count, state, ~parent[other], now)
                    # The frame's root is the first pixel, and so remains one.
                    root, other = min(root, other), max(root, other)
                    i, j = ~parent[root], ~parent[other]
                    state[i, _AREA] += state[j, _AREA]
                    _extend(
                        state, i, state[j, _X0], state[j, _Y0], state[j, _X1], state[j, _Y1], state[j, _FIRST]
                    )
                    parent[other] = root
        begin = stop[now]
    for p in order:
        if parent[p] < 0:
            count = _record(records, count, state, ~parent[p], LEVELS - 1)
    return records[:count].copy()


@compiled
@no_type_check
def _in_order(time, pattern, matters):
    """Pixels that matter, by time and in raster order within one, and where each time ends."""
    stop = np.zeros(LEVELS, np.int32)
    for p in range(time.size):
        if matters[pattern[p]] and 0 <= time[p] < LEVELS - 1:
            stop[time[p] + 1] += 1
    stop = np.cumsum(stop)
    order = np.empty(stop[-1], np.int32)
    for p in range(time.size):
        if matters[pattern[p]] and 0 <= time[p] < LEVELS - 1:
            order[stop[time[p]]] = p
            stop[time[p]] += 1
    return order, stop


@compiled
@no_type_check
def _forest(time, pattern, tables, step):
    """Every pixel's parent, one that appeared before it, or ``~i`` for a root with its component in row i of the state.

    The frame is a component from the start, the first, with the first pixel as root.
    """
    height, width = time.shape
    up = step[tables.members[:, 0]]
    roots = 0
    for role in pattern:
        roots += tables.arcs[role] == 0
    parent = np.zeros(pattern.size, np.int32)
    state = np.empty((roots, 8), np.int32)
    parent[0] = ~0
    state[0, _SINCE] = LEVELS  # never recorded
    roots = 1
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            p = y * width + x
            parent[p] = p + up[pattern[p]]
            if parent[p] == p:
                parent[p] = ~roots
                state[roots, _X0] = state[roots, _X1] = x
                state[roots, _Y0] = state[roots, _Y1] = y
                state[roots, _AREA], state[roots, _FIRST], state[roots, _SINCE] = 0, p, time[y, x]
                roots += 1
    return parent, state


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
    """Record a component that is about to change as it has been until now."""
    for column in range(_UNTIL):
        records[count, column] = state[i, column]
    records[count, _UNTIL] = now
    state[i, _SINCE] = now
    return count + 1
