"""Matrices of interpolation: what the weights add up to, and what they make of a straight line."""

import numpy as np
import pytest

from fcam_jax.models.interpolation import cubic, weights_at


@pytest.mark.parametrize("target", [1, 4, 6, 9])
def test_rows_of_the_matrix_sum_to_one_and_keep_straight_lines_within(target):
    places = (np.arange(target) + 0.5) * 6 / target - 0.5
    matrix = weights_at(places, 6, cubic)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    within = (places >= 1) & (places <= 4)
    bend = matrix @ np.arange(6.0) - places
    # With a = -0.5 it would be exact; with -0.75 a line bends by up to 0.05.
    assert np.abs(bend[within]).max(initial=0) < 0.06
