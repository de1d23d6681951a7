"""Runs that are killed or asked to stop end like one that is not: `training/kill.py` and `runtime/stop.py` in small."""

import time

import pytest
from kill import compare, finish, start

from tests.runtime.stop import spread

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing has ended, and the seconds that it took."""
    folder, began = tmp_path_factory.mktemp("run") / "whole", time.monotonic()
    finish(start(folder, 1))
    return folder, time.monotonic() - began


# Once is to be killed; twice, to be asked to stop, too.
@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_run_that_is_ended_ends_like_one_that_is_not(whole, tmp_path, times):
    different, counts = compare(tmp_path, whole[0], kills=times, epochs=1, seed=0)
    assert different == []
    assert counts["kills"] + counts["stops"] == times and counts["compared"] > 100


@pytest.mark.long
def test_programs_that_are_asked_to_stop_at_any_moment_say_so_in_a_line_or_are_done(whole, tmp_path):
    outcomes, different, _ = spread(tmp_path, *whole, moments=3, seed=1, compared=3)
    assert different == []
    assert {found for _, found in outcomes} <= {"done", "asked to stop", "before Python had begun", "the same"}
