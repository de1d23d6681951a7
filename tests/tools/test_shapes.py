"""Plateaus and modes of curves and histograms whose answer is known in closed form."""

import numpy as np
import pytest

from tools.publication.shapes import activation_shape, plateau

TAUS = np.arange(0, 1, 0.001)
CENTRES = (np.arange(256) + 0.5) / 256


@pytest.mark.parametrize(("top", "half_base", "drop"), [(0.35, 0.2, 5.0), (0.5, 0.5, 5.0), (0.6, 0.3, 20.0)])
def test_a_triangle_has_a_plateau_of_drop_times_base_over_height(top, half_base, drop):
    height = 80.0
    found = plateau(TAUS, height * np.clip(1 - np.abs(TAUS - top) / half_base, 0, None), drop)
    assert found.threshold == pytest.approx(top)
    assert found.width == pytest.approx(drop * 2 * half_base / height)
    assert (found.low + found.high) / 2 == pytest.approx(top)


def test_a_coarse_triangle_has_the_same_plateau():
    taus = np.array([0.0, 0.2, 0.4, 0.7, 1.0])
    found = plateau(taus, np.array([0.0, 40.0, 80.0, 20.0, 0.0]), 10.0)
    assert found.low == pytest.approx(0.35) and found.high == pytest.approx(0.45)


def test_a_flat_curve_is_a_plateau_from_end_to_end():
    found = plateau(TAUS, np.full(len(TAUS), 70.0))
    assert (found.threshold, found.low, found.high) == (0, 0, TAUS[-1])
    assert plateau(np.zeros(1), np.array([3.0])).width == 0


def test_a_curve_that_never_falls_by_the_drop_and_one_that_does_at_one_end():
    assert plateau(TAUS, 70 - 4 * TAUS).width == TAUS[-1]
    found = plateau(TAUS, 70 - 10 * TAUS)
    assert (found.low, found.high) == (0, pytest.approx(0.5))


def test_a_second_hill_as_high_is_not_part_of_the_plateau():
    hills = 80 * np.maximum(np.clip(1 - np.abs(TAUS - 0.2) / 0.1, 0, 1), np.clip(1 - np.abs(TAUS - 0.8) / 0.1, 0, 1))
    assert plateau(TAUS, hills).width == pytest.approx(5 * 0.2 / 80)


def test_shares_of_an_even_distribution_are_those_of_the_bins():
    shape = activation_shape(np.full(256, 7))
    assert shape.high == pytest.approx(100 * (CENTRES >= 0.9).mean()) == pytest.approx(10, abs=0.4)
    assert shape.middle == pytest.approx(20, abs=0.4)
    assert shape.rise == pytest.approx(1) and not shape.second_mode


def test_two_hills_have_a_rise_of_the_lower_over_the_valley():
    # Flat hills wider than the window: smoothing leaves their height and that of the valley as they are.
    counts = np.full(256, 100)
    counts[:30], counts[-30:] = 900, 300
    shape = activation_shape(counts)
    assert shape.rise == pytest.approx(3) and shape.second_mode
    counts[-30:] = 140
    assert activation_shape(counts).rise == pytest.approx(1.4) and not activation_shape(counts).second_mode


@pytest.mark.parametrize(
    "counts",
    [
        1000 * np.exp(-6 * CENTRES),
        *(1000 * np.exp(-(((CENTRES - top) / 0.1) ** 2)) for top in (0.1, 0.5, 0.65, 0.9)),
        np.where(CENTRES < 0.01, 100.0, 0.0),
        np.zeros(256),
    ],
)
def test_one_hill_anywhere_is_no_second_mode(counts):
    shape = activation_shape(counts)
    assert shape.rise == pytest.approx(1) and not shape.second_mode


def test_an_empty_valley_is_a_finite_rise():
    counts = np.where((CENTRES < 0.1) | (CENTRES > 0.9), 50, 0)
    shape = activation_shape(counts)
    assert shape.rise == 1000 and shape.second_mode and shape.high == pytest.approx(50) and shape.middle == 0


def test_the_one_pixel_a_map_that_is_1_is_no_mode():
    counts = np.rint(1e6 * np.exp(-6 * CENTRES)).astype(int)
    counts[-1] += counts.sum() // (128 * 128)
    assert not activation_shape(counts).second_mode
