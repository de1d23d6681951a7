"""Epochs that flood: which model is kept, and the way back to a sound state."""

import dataclasses
import signal

import jax
import numpy as np
import pytest
from stepping import mesh_of
from test_loop import Stopping, assert_same
from tiny_stages import STAGES, Stream, fcam, optimizer

from fcam_jax.errors import Preempted
from fcam_jax.methods.soundness import Mark, Watch
from fcam_jax.training.checkpoint import Checkpoints
from fcam_jax.training.loop import Training, train
from fcam_jax.training.placed import Placed
from fcam_jax.training.settings import LoopSettings
from fcam_jax.training.step import initial_state, make_train_step

pytestmark = pytest.mark.slow

METHOD = STAGES["fcam"].method


@pytest.fixture(scope="module")
def stage():
    """The model on the devices, its update and its step, compiled once."""
    placed, update = Placed.split(fcam(["crf"]), METHOD, mesh_of(1)), optimizer(METHOD)
    return placed, update, make_train_step(placed, METHOD, update)


def watch(flooded, remedy=True):
    """Floods at these steps, whatever the figures are."""

    def marks(figures, ahead):
        assert figures["foreground_50"] > 0
        step = ahead.start
        return (Mark("flooded", f"as step {step} is", "lower it"),) if step in flooded else ()

    return dataclasses.replace(METHOD.watch(remedy), marks=marks)


def run(stage, directory, watched, values=None, stream=None, epochs=4):
    placed, update, step = stage
    training = Training(
        state=initial_state(placed, update),
        step=step,
        stream=stream or Stream(),
        validate=lambda state: {} if values is None else {"value": values[int(state.step)]},
        mesh=placed.mesh,
        rng=jax.random.key(3),
        directory=directory,
        settings=LoopSettings("fcam", epochs, 2, log_steps=1, selection="last" if values is None else "value"),
        watch=watched,
    )
    with Checkpoints(directory / "checkpoints", training=True) as checkpoints:
        train(training, checkpoints)
        return jax.device_get(checkpoints.restore(training.state)), checkpoints.progress()


def test_without_figures_the_last_sound_model_is_kept(stage, tmp_path, caplog):
    progress = run(stage, tmp_path / "end", watch([4, 6], remedy=False), epochs=3)[1]
    assert (progress.best_step, progress.marks, progress.remedied) == (2, {"flooded": "as step 6 is"}, None)
    told = [record.getMessage() for record in caplog.records if "flooded" in record.getMessage()]
    assert told == [f"fcam: flooded at epoch {n} of 3 (as step {2 * n} is): lower it" for n in (2, 3)]
    assert run(stage, tmp_path / "all", watch([2, 4], remedy=False), epochs=2)[1].best_step == 4


def test_an_unsound_epoch_wins_by_its_figure_only_where_none_is_sound(stage, tmp_path):
    values = {0: 10.0, 2: 90.0, 4: 50.0, 6: 95.0}
    assert run(stage, tmp_path / "some", watch([2, 6], remedy=False), values, epochs=3)[1].best_step == 4
    assert run(stage, tmp_path / "none", watch([2, 4, 6], remedy=False), values, epochs=3)[1].best_step == 6
    bad = run(stage, tmp_path / "bad", watch([2, 4], remedy=False), values | {0: 99.0}, epochs=2)
    assert bad[1].best_step == 0


def test_the_remedy_goes_back_to_the_last_sound_state_once(stage, tmp_path, caplog):
    state, progress = run(stage, tmp_path, watch([4, 8]))
    assert (progress.remedied, progress.best_step, progress.step, int(state.step)) == (4, 6, 8, 8)
    assert state.rest["fitted"]["crf"] == 0.25
    told = [record.getMessage() for record in caplog.records if "flooded" in record.getMessage()]
    assert told == [
        "fcam: flooded at epoch 2 of 4 (as step 4 is): going back to epoch 1, and on with a smaller weight "
        "(fcam.remedy)",
        "fcam: flooded at epoch 4 of 4 (as step 8 is): lower it",
    ]


def test_a_flood_in_the_first_epoch_goes_back_to_the_untrained_model(stage, tmp_path, monkeypatch):
    placed, update, _ = stage
    went_on_from = []
    restore = Checkpoints.restore_sound

    def watched(self, like):
        went_on_from.append(jax.device_get(restore(self, like)))
        return restore(self, like)

    monkeypatch.setattr(Checkpoints, "restore_sound", watched)
    run(stage, tmp_path, watch([2]), epochs=2)
    (sound,) = went_on_from
    assert_same(sound, jax.device_get(initial_state(placed, update)))


@pytest.fixture(scope="module")
def whole(stage, tmp_path_factory):
    """A run with the remedy, without interruption."""
    return run(stage, tmp_path_factory.mktemp("whole"), watch([4]))


@pytest.mark.sampled
@pytest.mark.parametrize("at", [5, 4, 6, 7])  # before the batch of step 5 is taken, the remedy is
def test_a_resumed_run_repeats_the_remedy_bit_for_bit(stage, whole, tmp_path, listening, at):
    with pytest.raises(Preempted):
        run(stage, tmp_path, watch([4]), stream=Stopping(at, signal.SIGTERM))
    listening()
    parts = run(stage, tmp_path, watch([4]))
    assert_same(whole[0], parts[0])
    assert whole[1] == parts[1] and parts[1].remedied == 4


def test_a_watch_that_finds_nothing_changes_nothing(stage, tmp_path):
    plain, watched = run(stage, tmp_path / "plain", Watch(), epochs=1), run(stage, tmp_path / "w", watch([]), epochs=1)
    assert_same(plain[0], watched[0])
    assert plain[1] == watched[1] and np.isfinite(list(plain[1].sums.values())).all()
