"""The offset of maps that are sampled beside an even grid is found from them and those of mirrored images."""

import numpy as np
import pytest
from abstract import abstract_encoder

from benchmarks.offset import best_offset, correlation, padding_alone

SIDE = 96


def sampled(stride, offset, mirrored=False):
    """Smooth random images, seen at the cells of a grid that lies `offset` pixels beside an even one; 4 x [3, n]."""
    rng = np.random.default_rng(0)
    waves, phases = rng.uniform(0.5, 2.5, (4, 3, 5, 1)), rng.uniform(0, 2 * np.pi, (4, 3, 5, 1))
    at = stride * (np.arange(SIDE // stride) + 0.5) - 0.5 + offset
    at = SIDE - 1 - at if mirrored else at
    return np.sin(2 * np.pi * waves * at / SIDE + phases).sum(axis=2)


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("cells", [-0.75, -0.25, 0, 0.5])
def test_the_offset_is_found(stride, cells):
    offset = cells * stride
    maps, mirrored = sampled(stride, offset), sampled(stride, offset, mirrored=True)
    assert best_offset(maps, mirrored, stride, SIDE) == pytest.approx(offset, abs=stride / 16)
    assert correlation(maps, mirrored, stride, SIDE, offset) > 0.99


def test_of_equal_maps_any_scale_has_the_correlation_one():
    maps = sampled(8, 0)
    assert correlation(maps, 3 * maps[..., ::-1] - 1, 8, SIDE, 0.0) == pytest.approx(1)


def test_padding_alone_leaves_the_weight_of_kernels_out():
    encoder = abstract_encoder("mobilenet_v1_075", final_stride=16)
    assert padding_alone(encoder, 224) == 7.5 and encoder.offset(224) < 0
