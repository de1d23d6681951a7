"""Weights and images that any program can make again, so that networks are compared without a file of weights."""

import zlib
from collections.abc import Sequence

import numpy as np


def weight(key: str, shape: Sequence[int]) -> np.ndarray:
    """The values of a tensor by its name in PyTorch and its shape there, such that no map explodes."""
    values = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif key.endswith("running_mean"):
        values = 0.1 * values
    elif len(shape) >= 2:
        values = values * np.sqrt(2 / np.prod(shape[1:]))
    else:
        values = 1 + 0.1 * values if key.endswith("weight") else 0.05 * values
    return values.astype(np.float32)


def images(side, count=2):
    """Normalised images."""
    values = np.random.default_rng(0).standard_normal((count, 3, side, side)).astype(np.float32)
    return values.transpose(0, 2, 3, 1)
