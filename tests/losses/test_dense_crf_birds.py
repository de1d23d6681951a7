"""The error of the landmarks on photographs at 224 pixels, by the benchmark's own measure: few draws of a few birds."""

import pytest

from benchmarks.losses import errors, pictures


@pytest.fixture(scope="module")
def birds(shared):
    return pictures(shared / "data" / "cub50" / "images", 3, 224)


@pytest.mark.slow
def test_the_default_form_is_near_the_sum_over_all_pairs(birds):
    found = errors(*birds, stride=4, draws=20, count=128)
    assert found["KS %"] < 2.5 and found["1 - cosine"] < 1e-3
    # The mean of 20 draws, whose own standard error is about a tenth of a percent.
    assert found["max bias %"] < 0.5


@pytest.mark.slow
def test_strata_of_brightness_are_better_than_square_cells(birds):
    strata, cells = (errors(*birds, stride=4, block=block, draws=10, count=128) for block in (4, 1))
    assert strata["KS %"] < 0.8 * cells["KS %"] and strata["max KS %"] < 0.8 * cells["max KS %"]


def test_all_pairs_in_float32_are_the_sum_in_float64(birds):
    found = errors(*birds, stride=0, count=128)
    assert found["max KS %"] < 1e-3 and found["max bias %"] < 1e-3
