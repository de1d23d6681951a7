"""What is watched of a training: losses and states that are not finite, spikes, dead seeds, standstills."""

import dataclasses
import json
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stepping import step_of
from test_loop import final_state, log, run
from tiny_stages import BATCH, Stream

from fcam_jax.errors import InputError
from fcam_jax.runtime import watchdog
from fcam_jax.training.guards import Spikes, Warnings

pytestmark = pytest.mark.slow

LENGTHS = {"steps_per_epoch": 8, "log_steps": 3, "checkpoint_steps": 2}


def spoilt(stage, at, loss):
    """The train step, whose loss or state is infinite once at some step."""
    step = step_of(stage, 1)

    def spoil(state, batch, rng):
        number = int(state.step) + 1
        state, figures = step(state, batch, rng)
        if number == at and loss:
            figures = figures | {"loss": jnp.array(np.inf)}
        elif number == at:
            state = dataclasses.replace(state, rest=jax.tree.map(lambda x: x * jnp.nan, state.rest))
        return state, figures

    return spoil


# A state is looked at where it is logged or saved; the loss of the step after it tells, too.
@pytest.mark.parametrize(
    ("at", "loss", "what", "found"),
    [(4, True, "loss", 4), (5, True, "loss", 5), (4, False, "state", 4), (5, False, "loss", 6), (8, False, "state", 8)],
)
def test_what_is_not_finite_stops_the_run_and_is_never_saved(fcam_stage, tmp_path, at, loss, what, found):
    words = f"fcam: the {what} is not finite at step {found}, on the images "
    with pytest.raises(InputError, match=words) as told:
        run(fcam_stage, tmp_path, epochs=1, step=spoilt(fcam_stage, at, loss), **LENGTHS)
    assert "\n" not in str(told.value)
    state, progress = final_state(fcam_stage, tmp_path)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert progress.step == {4: 2, 5: 4, 8: 6}[at]
    failure = json.loads((tmp_path / "failed" / "failure.json").read_text())
    assert (failure["step"], failure["checkpoint"]) == (found, progress.step)
    assert list(failure["images"]) == [str(BATCH * (found - 1) + i) for i in range(BATCH)]
    assert bool(failure["not_finite"]) != loss
    kept = tmp_path / "failed" / str(progress.step) / "manifest.json"
    assert kept.samefile(tmp_path / "checkpoints" / "latest" / str(progress.step) / "manifest.json")


def test_spikes_are_steps_above_ten_times_the_median_of_what_was_logged():
    spikes = Spikes([2.0] * 9)
    assert spikes.count([30.0, 1000.0]) == 0  # too few are known
    assert spikes.count([19.0, 20.0, 20.5, 300.0]) == 2
    assert Spikes([-1.0] * 50).count([100.0]) == 0  # of a loss below zero there is no multiple
    long = Spikes([1.0] * 100)
    assert [long.count([15.0]) for _ in range(60)] == [1] * 50 + [0] * 10  # the median is that of the last 100


def test_oddities_are_told_once_an_epoch(caplog):
    warnings = Warnings("fcam epoch 1/2")
    for step, dead in ((10, 50.0), (20, 51.0), (30, 90.0)):
        warnings.look_at(step, {"loss_spikes": 2.0, "dead_seeds": dead})
    assert [record.message for record in caplog.records] == [
        "fcam epoch 1/2: 2 step(s) up to step 10 with a loss above 10 times its median",
        "fcam epoch 1/2: 51 % of the images have no seeds of one kind, up to step 20: their CAMs are constant, or the "
        "two kinds cover each other",
    ]


def test_figures_of_the_guards_are_logged(fcam_stage, tmp_path):
    run(fcam_stage, tmp_path, epochs=1)
    assert all(row["loss_spikes"] == 0 and 0 <= row["dead_seeds"] <= 100 for row in log(tmp_path, "train"))


def test_a_standstill_is_told_with_what_is_waited_for(fcam_stage, tmp_path, caplog):
    class Stuck(Stream):
        def __next__(self):
            if self.position == 1:
                time.sleep(1.0)
            return super().__next__()

    run(fcam_stage, tmp_path, epochs=1, stream=Stuck(), watchdog_seconds=0.25)
    told = [r.message for r in caplog.records if "data: the batch of step" in r.message]
    assert told and told[0].startswith("fcam: nothing has moved for ")
    assert not any(thread.name == "watchdog" for thread in threading.enumerate())


def test_a_standstill_is_told_after_some_time_and_then_at_doubling_ones():
    standstill = watchdog.Standstill(10.0)
    assert [now for now in range(100) if standstill.worth_telling(5.0, float(now)) is not None] == [15, 25, 45, 85]
    assert standstill.worth_telling(95.0, 100.0) is None  # something has moved
    assert standstill.worth_telling(95.0, 105.0) == 10.0


def test_the_watchdog_names_what_comes_next(caplog):
    with watchdog.watching("stage", 0.2):
        for _ in watchdog.each(range(6), "validation batch"):
            pass
        time.sleep(1.1)
    assert {r.message.rpartition("waits for ")[2] for r in caplog.records} == {"validation batch 7"}
