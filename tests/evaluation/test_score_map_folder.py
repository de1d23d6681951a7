"""Stored maps as they are evaluated, against the golden values of the protocol's program."""

import numpy as np
import pytest

from fcam_jax.evaluation.boxes import quantise
from fcam_jax.evaluation.score_map import scaled_map

FILE = "a.jpg.npy"


@pytest.mark.parametrize("side", [7, 14, 28, 29])
def test_low_resolution_maps_become_the_reference_programs_to_the_last_level(shared, side):
    golden = np.load(shared / "golden/evaluation/cam_upsample.npz")
    for i, low in enumerate(golden[f"low_{side}"]):
        score_map = scaled_map(low, (224, 224), False, FILE)
        assert score_map.min() == 0 and score_map.max() == 1
        np.testing.assert_array_equal(quantise(score_map), golden[f"uint8_{side}"][i])
        np.testing.assert_allclose(score_map[::4, ::4], golden[f"norm_{side}"][i], atol=1e-12)


def test_a_map_of_the_right_size_is_taken_as_it_is():
    stored = np.random.default_rng(0).uniform(0.2, 0.7, (8, 8)).astype(">f4")
    score_map = scaled_map(stored, (8, 8), False, FILE)
    assert score_map.dtype == np.dtype(np.float64)
    np.testing.assert_array_equal(score_map, stored)
    scaled = scaled_map(stored, (8, 8), True, FILE)
    span = float(stored.max()) - float(stored.min())
    np.testing.assert_allclose(scaled, (stored.astype(np.float64) - stored.min()) / span, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (3, 5)])
@pytest.mark.parametrize("minmax", [False, True])
def test_a_constant_map_becomes_zero(shape, minmax):
    score_map = scaled_map(np.full(shape, 0.3), (8, 8), minmax, FILE)
    assert score_map.shape == (8, 8) and not score_map.any()


def test_a_map_larger_than_the_frame_is_reduced():
    rows = np.linspace(-1, 3, 160)[:, None] * np.ones(200)
    score_map = scaled_map(rows, (8, 8), False, FILE)
    np.testing.assert_allclose(score_map, np.linspace(0, 1, 8)[:, None] * np.ones(8), atol=1e-6)
