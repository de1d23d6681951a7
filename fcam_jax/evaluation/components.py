"""Connected components of a set of pixels that grows, at all times of its growth.

One union-find pass over the pixels in the order in which they join the set. Most pixels only join the component amid
which they appear: they get a pixel that was there before as parent, and are passed over but for what they add to the
area. In: when each pixel joins; out: boxes and areas of all components, and how long they stay as they are.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Int16, Int32

from fcam_jax.evaluation.neighbour_patterns import Tables, neighbour_patterns, ring_steps
from fcam_jax.runtime.compiled import compiled

# The times at which a pixel may join: 0, 1, ... below it.
TIMES = 255

# What is kept of a component: its inclusive box, doubled area and first pixel in raster order, and the times from
# which and before which they are so.
X0, Y0, X1, Y1, AREA, FIRST, SINCE, UNTIL = range(8)
BOX = slice(X0, Y1 + 1)


def components(time: Int16[np.ndarray, "h w"], tables: Tables) -> Int32[np.ndarray, "n 8"]:
    """Every connected set of pixels that exists at some time, but for the one that the frame is in.

    `time` is when each pixel of a padded map appears; outside of ``0 <= time < TIMES``, never. The frame of pixels
    around the map does not appear either; where its time is below 0 it is there from the start, as one component.

    Returns:
      A row for every component and every span of time in which it stays as it is, in the order in which they end.
    """
    # Compiled functions of two files do not call each other: numba would not notice a change in the other file.
    return _components(time, neighbour_patterns(time).ravel(), tables, ring_steps(time.shape[1]))


@compiled
@no_type_check
def _components(time, pattern, tables, step):
    order, stop = _in_order(time.ravel(), pattern, tables.matters)
    parent, state = _forest(time, pattern, tables, step)
    width = time.shape[1]
    # At most one row for each pixel: it changes one component, and of two that it connects one had a first pixel.
    records, count = np.empty((order.size, 8), np.int32), 0
    begin = 0
    for now in range(TIMES):
        for p in order[begin : stop[now]]:
            role = pattern[p]
            root = _find(parent, p)
            i = ~parent[root]
            if state[i, SINCE] < now:
                count = _record(records, count, state, i, now)
            state[i, AREA] += tables.area[role]
            if tables.extends[role]:
                y = np.uint32(p) // np.uint32(width)
                x = np.uint32(p) - y * np.uint32(width)
                _extend(state, i, x, y, x, y, p)
            for arc in range(1, tables.arcs[role]):
                other = _find(parent, p + step[tables.members[role, arc]])
                if other != root:
                    if state[~parent[other], SINCE] < now:
                        count = _record(records, count, state, ~parent[other], now)
                    # The frame's root is the first pixel, and so remains one.
                    root, other = min(root, other), max(root, other)
                    i, j = ~parent[root], ~parent[other]
                    state[i, AREA] += state[j, AREA]
                    _extend(state, i, state[j, X0], state[j, Y0], state[j, X1], state[j, Y1], state[j, FIRST])
                    parent[other] = root
        begin = stop[now]
    for p in order:
        if parent[p] < 0:
            count = _record(records, count, state, ~parent[p], TIMES)
    return records[:count].copy()


@compiled
@no_type_check
def _in_order(time, pattern, matters):
    """Pixels that matter, by time and in raster order within one, and where each time ends."""
    found, count = np.empty(time.size, np.int32), 0
    for p in range(time.size):
        found[count] = p
        count += matters[pattern[p]] & (time[p] >= 0) & (time[p] < TIMES)
    stop = np.zeros(TIMES + 1, np.int32)
    for p in found[:count]:
        stop[time[p] + 1] += 1
    stop = np.cumsum(stop)
    order = np.empty(count, np.int32)
    for p in found[:count]:
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
    # Nothing is recorded of a component that has not existed before: the frame's never has.
    state[0] = TIMES
    roots = 1
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            p = y * width + x
            parent[p] = p + up[pattern[p]]
            if parent[p] == p:
                parent[p] = ~roots
                state[roots, X0] = state[roots, X1] = x
                state[roots, Y0] = state[roots, Y1] = y
                state[roots, AREA], state[roots, FIRST], state[roots, SINCE] = 0, p, time[y, x]
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
    state[i, X0] = min(state[i, X0], x0)
    state[i, Y0] = min(state[i, Y0], y0)
    state[i, X1] = max(state[i, X1], x1)
    state[i, Y1] = max(state[i, Y1], y1)
    state[i, FIRST] = min(state[i, FIRST], first)


@compiled
@no_type_check
def _record(records, count, state, i, now):
    """Record a component that is about to change as it has been until now."""
    for column in range(UNTIL):
        records[count, column] = state[i, column]
    records[count, UNTIL] = now
    state[i, SINCE] = now
    return count + 1
