"""Interpolation along one axis as a constant matrix."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Kernel = Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]]  # weight of a sample at a distance, 0 beyond 2


def linear(distance: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The kernel of linear interpolation."""
    return np.maximum(1 - distance, 0)


def cubic(distance: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The kernel of cubic interpolation with a = -0.75, as OpenCV has it, and PyTorch without antialias.

    Reference: Keys, Cubic convolution interpolation for digital image processing, 1981, Eq. 4.
    """
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def weights_at(
    places: Float[np.ndarray, " target"], source: int, kernel: Kernel
) -> Float[np.ndarray, "target {source}"]:
    """The weight of each of `source` samples, which lie at 0, 1 and so on, at every place; the outer ones repeat."""
    taps = np.floor(places)[:, None] + np.arange(-1, 3)
    matrix = np.zeros((len(places), source))
    entries = np.arange(len(places))[:, None], np.clip(taps, 0, source - 1).astype(int)
    np.add.at(matrix, entries, kernel(np.abs(places[:, None] - taps)))
    return matrix
