import dataclasses
import errno
import functools
import json
import signal
import time
import types

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from stepping import mesh_of, step_of
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tiny_stages import STAGES, Stream, optimizer, placed

from fcam_jax.errors import InputError, Preempted
from fcam_jax.runtime import watchdog
from fcam_jax.training.checkpoint import Checkpoints
from fcam_jax.training.loop import Training, train
from fcam_jax.training.metric_log import MetricLog
from fcam_jax.training.placed import split_model
from fcam_jax.training.settings import LoopSettings
from fcam_jax.training.step import initial_state

pytestmark = pytest.mark.slow


def run(stage, directory, epochs, stream=None, validate=None, selection="value", step=None, devices=1, **settings):
    mesh = mesh_of(devices)
    lengths = {"steps_per_epoch": 2, "log_steps": 1} | settings
    settings = LoopSettings(stage.name, epochs, selection=selection, **lengths)
    training = Training(
        state=initial_state(placed(stage, mesh), stage.optimizer),
        step=step or step_of(stage, devices),
        stream=stream or Stream(),
        validate=validate or (lambda state: {"value": float(state.step)}),
        mesh=mesh,
        rng=jax.random.key(3),
        directory=directory,
        settings=settings,
    )
    with Checkpoints(directory / "checkpoints", training=True) as checkpoints:
        train(training, checkpoints)


@pytest.fixture(scope="module")
def few():
    """The first stage, of whose few arrays a checkpoint is written quickly."""
    found = STAGES["classifier"]
    model, method = found.model(), found.method
    return types.SimpleNamespace(name="classifier", model=model, method=method, optimizer=optimizer(method))


@pytest.fixture(scope="module")
def whole(few, tmp_path_factory):
    """From the lengths of a run to the folder of one without interruption, which is made once."""

    @functools.cache
    def made(**lengths):
        directory = tmp_path_factory.mktemp("whole")
        run(few, directory, **lengths)
        return directory

    return made


def final_state(stage, directory, devices=1):
    mesh = mesh_of(devices)
    checkpoints = Checkpoints(directory / "checkpoints")
    state = checkpoints.restore(initial_state(placed(stage, mesh), stage.optimizer))
    progress = checkpoints.progress()
    checkpoints.close()
    return jax.device_get(state), progress


def log(directory, kind):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


class BrokenStream(Stream):
    """Fails at the third batch."""

    def __next__(self):
        if self.position == 3:
            raise InputError("bird.jpg is truncated")
        return super().__next__()


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.sampled
def test_four_steps_equal_two_and_a_restore_and_two(stage, tmp_path):
    for name, epochs in (("whole", 2), ("parts", 1), ("parts", 2)):
        run(stage, tmp_path / name, epochs, devices=4)
    (whole, progress), (parts, resumed) = (final_state(stage, tmp_path / name, 4) for name in ("whole", "parts"))
    assert_same(whole, parts)
    assert progress == resumed and progress.step == 4 and progress.data == {"position": 4}
    logs = [without_time(log(tmp_path / run, "train")) for run in ("whole", "parts")]
    assert logs[0] == logs[1] and len(logs[0]) == 4


@pytest.mark.long
def test_four_steps_on_tokens_equal_two_and_a_restore_and_two(token_stage, tmp_path):
    test_four_steps_equal_two_and_a_restore_and_two(token_stage, tmp_path)


@pytest.mark.sampled
def test_the_line_of_an_epoch_has_loss_and_accuracy(stage, tmp_path, caplog):
    caplog.set_level("INFO", "fcam_jax.training.loop")
    run(stage, tmp_path, epochs=1, validate=lambda state: {"value": 0.25, "classes": 87.5}, ties="classes")
    rows = log(tmp_path, "train")
    means = {name: np.mean([row[name] for row in rows if name in row] or 0) for name in ("loss", "accuracy")}
    first, last = (record.getMessage() for record in caplog.records if "epoch" in record.getMessage())
    assert first.startswith(f"{stage.name}: epoch 0 of 1, val value 0.25 (kept 0.25), val classes 87.50 (kept")
    accuracy = f"accuracy {means['accuracy']:.1f}, " if "accuracy" in rows[0] else ""
    told = f"{stage.name}: epoch 1 of 1, loss {means['loss']:.4f}, {accuracy}val value 0.25 (kept 0.25)"
    assert last.startswith(told)


class Stopping(Stream):
    """Asks to stop while it gives the batch of some step."""

    def __init__(self, at, number=signal.SIGTERM):
        super().__init__()
        self.at, self.number = at, number

    def __next__(self):
        if self.position == self.at - 1:
            signal.raise_signal(self.number)
        return super().__next__()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_request_to_stop_saves_the_step_and_the_log_goes_on_as_if_nothing_was(
    few, whole, tmp_path, listening, number
):
    lengths = {"epochs": 2, "steps_per_epoch": 7, "log_steps": 3, "checkpoint_steps": 4}
    kind = KeyboardInterrupt if number == signal.SIGINT else Preempted
    # Batches are taken one ahead: that of step 6 before step 5 is done. Step 7 is the last of its epoch.
    for at, saved in ((6, 5), (8, 7)) if number == signal.SIGTERM else ((6, 5),):
        with pytest.raises(kind) as caught:
            run(few, tmp_path, stream=Stopping(at, number), **lengths)
        listening()
        assert final_state(few, tmp_path)[1].step == saved
        assert number == signal.SIGINT or caught.value.code == 75
    run(few, tmp_path, **lengths)
    (expected, progress), (found, resumed) = (final_state(few, folder) for folder in (whole(**lengths), tmp_path))
    assert_same(expected, found)
    assert progress == resumed
    for kind in ("train", "val"):
        expected, found = (without_time(log(folder, kind)) for folder in (whole(**lengths), tmp_path))
        assert expected == found and len(expected) == {"train": 6, "val": 3}[kind]


def test_a_run_that_ends_while_it_validates_keeps_its_epoch(few, whole, tmp_path, listening):
    def validate(state):
        if int(state.step) == 4:
            signal.raise_signal(signal.SIGTERM)
        list(watchdog.each(range(2), "validation batch"))
        return {"value": float(state.step)}

    with pytest.raises(Preempted):
        run(few, tmp_path, epochs=2, validate=validate)
    listening()
    progress = final_state(few, tmp_path)[1]
    assert (progress.step, progress.validated, progress.best_step) == (4, 2, 2)
    run(few, tmp_path, epochs=2)
    expected, resumed = (final_state(few, folder)[1] for folder in (whole(epochs=2), tmp_path))
    assert expected == resumed and resumed.best_step == 4
    assert without_time(log(whole(epochs=2), "val")) == without_time(log(tmp_path, "val"))


def test_a_request_while_a_checkpoint_is_read_is_no_damage(few, tmp_path, listening, monkeypatch):
    run(few, tmp_path, epochs=1)
    read = ocp.CheckpointManager.restore

    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        return read(*args, **kwargs)

    monkeypatch.setattr(ocp.CheckpointManager, "restore", interrupted)
    with pytest.raises(Preempted):
        run(few, tmp_path, epochs=2)


def without_time(rows):
    return [{k: v for k, v in row.items() if k not in ("steps_per_second", "data_wait")} for row in rows]


def test_checkpoints_of_another_configuration_are_refused(few, tmp_path):
    run(few, tmp_path, epochs=1)
    checkpoints = Checkpoints(tmp_path / "checkpoints", training=True)
    checkpoints.amend(dataclasses.replace(checkpoints.progress(), config="0123"))
    checkpoints.close()
    with pytest.raises(InputError, match=r"of another configuration \(0123 there, unknown now\); use another folder"):
        run(few, tmp_path, epochs=2)


def test_bad_data_stops_the_run_and_loses_nothing(few, whole, tmp_path):
    with pytest.raises(InputError, match=r"bird\.jpg"):
        run(few, tmp_path, epochs=2, stream=BrokenStream())
    assert final_state(few, tmp_path)[1].step == 3
    run(few, tmp_path, epochs=2)
    assert_same(final_state(few, whole(epochs=2))[0], final_state(few, tmp_path)[0])


def test_a_finished_stage_is_not_trained_again(few, tmp_path):
    run(few, tmp_path, epochs=1)
    before = (tmp_path / "metrics.jsonl").read_text()

    def never(state):
        raise AssertionError("validated again")

    run(few, tmp_path, epochs=1, validate=never)
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_the_first_maximum_is_the_best_and_step_zero_takes_part(few, tmp_path):
    values = {0: 50.0, 2: 70.0, 4: 70.0, 6: 60.0}
    run(few, tmp_path, epochs=3, validate=lambda state: {"value": values[int(state.step)]})
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    _, params, rest = split_model(few.model, few.method)
    best, _, record = checkpoints.restore_model(params, rest)
    checkpoints.close()
    assert record == {"step": 2, "val": {"value": 70.0}}
    run(few, tmp_path / "one", epochs=1, validate=lambda state: {"value": values[int(state.step)]})
    assert_same(best, final_state(few, tmp_path / "one")[0].params)
    assert [row["value"] for row in log(tmp_path, "val")] == list(values.values())


def test_within_the_noise_of_the_maximum_the_classes_choose_and_a_resumed_run_chooses_alike(few, tmp_path):
    # Of 30 images, 70 % and 73 % are the same within 8 %: one image's difference takes no better classifier away.
    values = {0: (50.0, 90.0), 2: (70.0, 75.0), 4: (73.3, 58.3), 6: (63.3, 75.0), 8: (90.0, 50.0), 10: (86.7, 51.7)}

    def validate(state):
        places, classes = values[int(state.step)]
        return {"value": places, "classes": classes, "images": 30.0}

    for epochs, best in ((2, 2), (3, 2), (4, 8), (5, 10)):
        run(few, tmp_path / "parts", epochs=epochs, validate=validate, ties="classes")
        assert final_state(few, tmp_path / "parts")[1].best_step == best
    run(few, tmp_path / "whole", epochs=5, validate=validate, ties="classes")
    (parts, resumed), (whole, progress) = (final_state(few, tmp_path / name) for name in ("parts", "whole"))
    assert resumed == progress and progress.best_value == 90.0 and progress.best_metrics["classes"] == 51.7
    assert_same(parts, whole)
    run(few, tmp_path / "maximum", epochs=3, validate=validate)
    assert final_state(few, tmp_path / "maximum")[1].best_step == 4


def test_without_figures_to_choose_by_the_last_model_is_the_best(few, tmp_path):
    run(few, tmp_path, epochs=2, validate=lambda state: {}, selection="last")
    assert final_state(few, tmp_path)[1].best_step == 4
    with pytest.raises(InputError, match=r"unknown config\.validation\.selection 'value'; known: last, other"):
        run(few, tmp_path / "other", epochs=1, validate=lambda state: {"other": 1.0})


def test_the_log_tells_how_long_the_device_waited_for_data(few, whole, tmp_path):
    class Slow(Stream):
        def __next__(self):
            time.sleep(0.3)
            return super().__next__()

    run(few, tmp_path, epochs=2, stream=Slow())
    folders = {"fast": whole(epochs=2), "slow": tmp_path}
    waited = {name: [row["data_wait"] for row in log(folder, "train")] for name, folder in folders.items()}
    # The first step compiles, and the last takes no batch ahead.
    assert max(waited["fast"]) < 50 and min(waited["slow"][1:-1]) > 60
    assert all(0 <= share <= 100 for share in waited["slow"])


@pytest.mark.sampled
def test_a_checkpoint_of_another_model_is_named(stage, tmp_path):
    run(stage, tmp_path, epochs=1)
    _, params, rest = split_model(stage.model, stage.method)
    first = jax.tree_util.tree_leaves_with_path(params)[0][0]
    larger = jax.tree_util.tree_map_with_path(lambda k, x: np.zeros((*x.shape, 2)) if k == first else x, params)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(InputError, match=r"checkpoints/best/2 belongs to another model \(params/.* there, .* here\)"):
        checkpoints.restore_model(larger, rest)
    checkpoints.close()


def test_an_empty_folder_says_to_train_first(tmp_path, few):
    _, params, rest = split_model(few.model, few.method)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(InputError, match="train first"):
        checkpoints.restore_model(params, rest)
    checkpoints.close()


def test_figures_logged_after_the_resumed_step_are_dropped(tmp_path):
    first = MetricLog(tmp_path, -1, None)
    for step in (1, 2, 3):
        first.write(step, "train", {"loss": float(step)})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "ki')
    second = MetricLog(tmp_path, 2, 2)
    second.write(3, "train", {"loss": 30.0})
    second.close()
    assert [(row["step"], row["loss"]) for row in log(tmp_path, "train")] == [(1, 1.0), (2, 2.0), (3, 30.0)]


# The writer leaves its file open where it fails; the process ends then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_log_that_cannot_be_written_is_told_in_one_line(few, whole, tmp_path, monkeypatch):
    def full(self, event):
        raise OSError(errno.ENOSPC, "No space left on device")

    run(few, tmp_path / "parts", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(EventsWriter, "write_event", full)
        with pytest.raises(
            InputError, match=r"^the metric log in \S*parts cannot be written \(No space left on device\)"
        ):
            run(few, tmp_path / "parts", epochs=2)
    run(few, tmp_path / "parts", epochs=2)
    assert_same(final_state(few, whole(epochs=2))[0], final_state(few, tmp_path / "parts")[0])


def test_events_are_tensorboards(tmp_path):
    log = MetricLog(tmp_path, -1, None)
    log.write(5, "val", {"PxAP": 12.5})
    log.close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    data, events = path.read_bytes(), []
    while data:  # length, its checksum, an event, its checksum
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    assert [(event.step, event.session_log.status) for event in events[1:]] == [(0, SessionLog.START), (5, 0)]
    (value,) = events[2].summary.value
    assert (value.tag, value.simple_value) == ("val/PxAP", 12.5)
