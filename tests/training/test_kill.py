"""Runs that are killed, and asked to stop, end like one that is not: `python -m tests.training.kill` in small."""

import pytest
from kill import compare

pytestmark = pytest.mark.slow


def test_a_run_that_is_ended_three_times_ends_like_one_that_is_not(tmp_path):
    different, counts = compare(tmp_path, kills=3, epochs=1, seed=0)
    assert different == []
    assert counts["kills"] + counts["stops"] == 3 and counts["compared"] > 100
