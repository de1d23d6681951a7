"""What low resolution alone costs, where it is known in closed form."""

import itertools

import numpy as np
import pytest

from fcam_jax.runs.report.figures import pxap_by_factor, reduced_and_enlarged
from fcam_jax.types import Annotation


def disc(side, radius):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(x, y) < radius


def test_a_perfect_map_at_full_resolution_is_perfect():
    assert pxap_by_factor([Annotation("a", 0, None, disc(64, 20))], [1]) == [pytest.approx(100)]


def test_resolution_costs_precision():
    values = pxap_by_factor([Annotation(str(r), 0, None, disc(64, r)) for r in (5, 12, 20)])
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(values))
    assert values[0] == pytest.approx(100) and values[-1] < 75


def test_a_map_of_one_cell_is_as_good_as_chance():
    # One cell is the same everywhere: precision is the share of the object at full recall.
    mask = np.zeros((32, 32), bool)
    mask[:8] = True
    assert pxap_by_factor([Annotation("a", 0, None, mask)], [32]) == [pytest.approx(25)]


def test_undecided_pixels_do_not_count():
    mask = np.zeros((32, 32), bool)
    mask[:8] = True
    ignore = np.zeros_like(mask)
    ignore[16:] = True
    assert pxap_by_factor([Annotation("a", 0, None, mask, ignore)], [32]) == [pytest.approx(50)]


def test_cells_are_means_and_enlarging_is_linear():
    score_map = np.zeros((4, 4))
    score_map[:, 2:] = 1
    # Cells 0 and 1 with centres at 0.5 and 2.5: at 1 and 2 a quarter and three quarters of the way.
    np.testing.assert_allclose(reduced_and_enlarged(score_map, 2), [[0, 0.25, 0.75, 1]] * 4)
    np.testing.assert_allclose(reduced_and_enlarged(score_map, 4), np.full((4, 4), 0.5))
    assert reduced_and_enlarged(np.ones((30, 50)), 32).shape == (30, 50)
