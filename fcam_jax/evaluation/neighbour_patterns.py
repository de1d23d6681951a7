"""What a pixel does to the components of a growing set when it joins the set, read off its eight neighbours.

Neighbours that touch each other belong to the same component, so those that are in the set already fall into a few
connected arcs around the pixel. With no arc the pixel starts a component, with one it joins that, and only with more
may it connect components. In: times at which pixels join; out: for each pixel the pattern of the neighbours that joined
before it, and tables of what follows from a pattern.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from fcam_jax.runtime.compiled import compiled

# Offsets x + iy of the neighbours in the order of a pattern's bits, from the right over the top; y points down.
_RING = (1 + 0j, 1 - 1j, -1j, -1 - 1j, -1 + 0j, -1 + 1j, 1j, 1 + 1j)
_RIGHT, _TOP_RIGHT, _TOP, _TOP_LEFT, _LEFT, _, _BELOW, _ = range(8)


class Tables(NamedTuple):
    """What follows from a pattern."""

    arcs: UInt8[np.ndarray, "256"]  # their number
    members: UInt8[np.ndarray, "256 4"]  # ring position of one neighbour of each arc; 8, the pixel itself, beyond
    area: UInt8[np.ndarray, "256"]  # twice what the pixel adds to its component, as the third or fourth of 2x2 blocks
    # Whether it may be beyond its component's box or, if areas are asked for, before its first pixel in raster order.
    extends: Bool[np.ndarray, "256"]
    matters: Bool[np.ndarray, "256"]  # whether it does any of this but join a single component


def tables(corners: bool, area: bool) -> Tables:
    """Tables for sets whose pixels touch across sides only or across corners too; areas are 0 if not asked for."""
    patterns = [[i for i in range(8) if pattern >> i & 1] for pattern in range(256)]
    arcs = [_arcs(there, corners) for there in patterns]
    areas = np.array([_doubled_area(there) if area else 0 for there in patterns], np.uint8)
    extends = np.array([_extends(there, area) for there in patterns])
    members = np.array([([_middle(arc, corners) for arc in found] + 4 * [8])[:4] for found in arcs], np.uint8)
    count = np.array([len(found) for found in arcs], np.uint8)
    return Tables(count, members, areas, extends, extends | (count > 1) | (areas > 0))


def _touch(offset: complex, corners: bool) -> bool:
    return abs(offset) <= (1.5 if corners else 1)


def _arcs(there: list[int], corners: bool) -> list[list[int]]:
    """Connected sets of neighbours, of those that touch the pixel."""
    arcs: list[list[int]] = []
    for i in there:
        touched = [arc for arc in arcs if any(_touch(_RING[i] - _RING[j], corners) for j in arc)]
        arcs = [arc for arc in arcs if arc not in touched] + [[i, *(j for arc in touched for j in arc)]]
    return [arc for arc in arcs if any(_touch(_RING[i], corners) for i in arc)]


def _middle(arc: list[int], corners: bool) -> int:
    """The neighbour amid an arc; it lies deep in the component, which keeps paths to the component's root short."""
    inwards = sum((_RING[i] for i in arc), 0j)
    touching = [i for i in arc if _touch(_RING[i], corners)]
    return max(touching, key=lambda i: (_RING[i] * inwards.conjugate()).real / abs(_RING[i]))


def _doubled_area(there: list[int]) -> int:
    """In how many of its four 2x2 blocks the pixel is the third or fourth."""
    return sum(len({i, i + 1, (i + 2) % 8}.intersection(there)) >= 2 for i in (0, 2, 4, 6))


def _extends(there: list[int], area: bool) -> bool:
    """Whether no neighbour is in its row, none in its column or, with area, none before it in raster order."""
    lines = [{_LEFT, _RIGHT}, {_TOP, _BELOW}] + ([{_LEFT, _TOP_LEFT, _TOP, _TOP_RIGHT}] if area else [])
    return any(line.isdisjoint(there) for line in lines)


@compiled
@no_type_check
def neighbour_patterns(time):
    """Bit i: the neighbour at ring position i joined before, of equal times the first in raster order."""
    height, width = time.shape
    patterns = np.zeros((height, width), np.uint8)
    for y in range(1, height - 1):
        above, row, below, out = time[y - 1], time[y], time[y + 1], patterns[y]
        for x in range(1, width - 1):
            t = row[x]
            out[x] = (
                (row[x + 1] < t)
                | (above[x + 1] <= t) << 1
                | (above[x] <= t) << 2
                | (above[x - 1] <= t) << 3
                | (row[x - 1] <= t) << 4
                | (below[x - 1] < t) << 5
                | (below[x] < t) << 6
                | (below[x + 1] < t) << 7
            )
    return patterns


def ring_steps(width: int) -> Int32[np.ndarray, "9"]:
    """How far each ring position, and the pixel itself, is from the pixel in a flattened map of that width."""
    return np.array([offset.real + offset.imag * width for offset in (*_RING, 0j)], np.int32)
