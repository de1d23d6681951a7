"""The search for settings, on a training without a network."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest
from tiny_stages import batch as made

from fcam_jax.errors import Preempted
from fcam_jax.training import search
from fcam_jax.training.loop import Training
from fcam_jax.training.placed import data_mesh
from fcam_jax.training.settings import LoopSettings
from fcam_jax.training.step import TrainState


class Numbers:
    """A stream that counts its batches."""

    def __init__(self):
        self.at = 5

    def __next__(self):
        self.at += 1
        return made(self.at)

    def get_state(self):
        return self.at

    def set_state(self, state):
        self.at = state


@pytest.fixture
def training(tmp_path):
    seen = []

    def step(state, batch, rng):
        seen.append((dict(jax.device_get(state.rest["fitted"])), int(state.step), int(batch.index[0]) // 8))
        params = {"sum": state.params["sum"] + batch.index[0]}
        return dataclasses.replace(state, step=state.step + 1, params=params), {"loss": 1.0 * params["sum"]}

    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params={"sum": jnp.zeros((), jnp.int32)},
        rest={"fitted": {"a": jnp.ones(()), "b": jnp.ones(())}, "other": jnp.full((), 7.0)},
        optimizer=(),
    )
    found = Training(
        state=state,
        step=step,
        stream=Numbers(),
        mesh=data_mesh(8),
        rng=jax.random.key(0),
        directory=tmp_path,
        settings=LoopSettings("fcam", 1, 2, 1, "last"),
        validate=lambda state: {},
    )
    return found, seen


def score(state):
    a, b = (float(state.rest["fitted"][name]) for name in "ab")
    return {"score": -((a - 3) ** 2) - (b - 0.5 * a) ** 2, "sum": float(state.params["sum"])}


OPTIONS = {"a": (1.0, 2.0, 3.0), "b": (1.0, 1.5, 0.0)}


@pytest.mark.slow
def test_each_setting_is_tried_with_the_best_of_those_before_it(training):
    training, _ = training
    found = search.found_settings(training, OPTIONS, 2, 2, score)
    tried = [row["settings"] for row in json.loads((training.directory / "search.json").read_text())["candidates"]]
    assert tried == [{"a": a, "b": b} for a, b in ((1, 1), (2, 1), (3, 1), (3, 1.5), (3, 0))]
    assert {name: float(value) for name, value in found.state.rest["fitted"].items()} == {"a": 3, "b": 1.5}
    assert found.state.rest["other"] == 7 and found.state.step == 0 and found.state.params["sum"] == 0


def test_all_candidates_go_on_from_the_same_state_and_see_the_same_data(training):
    training, seen = training
    search.found_settings(training, OPTIONS, 2, 2, score)
    assert [(step, batch) for _, step, batch in seen] == [(0, 6), (1, 7)] + [(2, 8), (3, 9)] * 5
    assert [values for values, _, _ in seen[:4:2]] == [{"a": 1, "b": 1}] * 2  # the start is the first candidate's
    rows = json.loads((training.directory / "search.json").read_text())["candidates"]
    assert {row["figures"]["sum"] for row in rows} == {8 * (6 + 7 + 8 + 9)}
    assert training.stream.get_state() == 5  # the training itself begins where it would without a search


def test_a_search_that_was_stopped_goes_on_with_the_candidate_that_was_not_finished(training, monkeypatch):
    training, seen = training
    left = [5]  # updates: the start, a candidate, half of the next

    def stop():
        left[0] -= 1
        if left[0] < 0:
            raise Preempted

    monkeypatch.setattr(search.preemption, "stop_if_requested", stop)
    with pytest.raises(Preempted):
        search.found_settings(training, OPTIONS, 2, 2, score)
    training.stream.set_state(5)
    monkeypatch.setattr(search.preemption, "stop_if_requested", lambda: None)
    before = len(seen)
    found = search.found_settings(training, OPTIONS, 2, 2, score)
    assert before == 5 and len(seen) - before == 10  # the start and four candidates, two steps each
    assert float(found.state.rest["fitted"]["b"]) == 1.5
    assert json.loads((training.directory / "search.json").read_text())["chosen"] == {"a": 3, "b": 1.5}


def test_what_is_not_better_is_not_taken(training):
    training, _ = training
    found = search.found_settings(training, OPTIONS, 0, 1, lambda state: {"score": 1.0})
    assert {name: float(value) for name, value in found.state.rest["fitted"].items()} == {"a": 1, "b": 1}
