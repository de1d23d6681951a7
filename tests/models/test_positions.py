"""Positional embeddings at other sizes against recorded values, which torch's `interpolate` has to 1e-7.

The grid is sin(0.31 i + 0.2), i the index in its 6 x 6 values; the values are corners and a row of the results.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.models.positions import RESAMPLINGS, resampled

GRID = np.sin(0.31 * np.arange(36) + 0.2).reshape(6, 6, 1).astype(np.float32)

# The first row, and the ends of the last one.
RECORDED = {
    ("offset", 8): (
        [0.1243913, 0.3204364, 0.5898422, 0.7831691, 0.9248548, 1.0424492, 1.0929905, 1.090213],
        [-0.0912492, -1.0450761],
    ),
    ("size", 8): (
        [0.1263439, 0.3259639, 0.5954402, 0.7920753, 0.9314454, 1.044538, 1.0913407, 1.0879573],
        [-0.1274658, -1.0878012],
    ),
    ("offset", 4): ([0.4253145, 0.6793555, 0.789075, 0.7232963], [0.3696179, -0.54952]),
    ("antialias", 4): ([0.5486395, 0.6799469, 0.6731043, 0.5307483], [0.3033617, -0.553819]),
    ("antialias", 8): (
        [0.1465164, 0.341076, 0.5845196, 0.7748045, 0.9238486, 1.0223912, 1.0618413, 1.059363],
        [-0.1135506, -1.0637576],
    ),
}


@pytest.mark.parametrize(("way", "side"), RECORDED)
def test_recorded_values(way, side):
    found = resampled(jnp.asarray(GRID), (side, side), way)[..., 0]
    first, ends = RECORDED[way, side]
    np.testing.assert_allclose(found[0], first, atol=1e-6)
    np.testing.assert_allclose(found[-1, [0, -1]], ends, atol=1e-6)


@pytest.mark.parametrize("way", RESAMPLINGS)
def test_a_grid_is_itself_at_its_own_size_and_axes_are_rows_and_columns(way):
    grid = jnp.asarray(GRID)
    np.testing.assert_array_equal(resampled(grid, (6, 6), way), grid)
    wide = resampled(grid, (3, 8), way)
    assert wide.shape == (3, 8, 1)
    np.testing.assert_allclose(resampled(grid.transpose(1, 0, 2), (8, 3), way), wide.transpose(1, 0, 2), atol=1e-6)


def test_an_unknown_way_is_named():
    with pytest.raises(InputError, match="resampling is 'nearest'; known: offset, size, antialias"):
        resampled(jnp.asarray(GRID), (3, 3), "nearest")
