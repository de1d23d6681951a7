"""Settings that a training finds itself: candidates go on for a while from one start, and the best one's are taken.

In: a `Training` whose model holds the settings as `Fitted` variables. Out: their values, and `search.json` in the
stage's folder, with the figures of every candidate. One compiled step serves all of them.
"""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fcam_jax.runtime import hosts, preemption
from fcam_jax.runtime.files import write_record
from fcam_jax.runtime.progress import progress_bar
from fcam_jax.runtime.records import read_record
from fcam_jax.training.feed import Feed
from fcam_jax.training.loop import Training
from fcam_jax.training.placed import replicate
from fcam_jax.training.step import TrainState

logger = logging.getLogger(__name__)

SEARCH = "search.json"
FITTED = "fitted"  # where the model holds the settings

Values = dict[str, float]
Options = Mapping[str, tuple[float, ...]]
# Figures of a state; "score" is what candidates are compared by, the higher the better.
Score = Callable[[TrainState], dict[str, float]]


def found_settings(training: Training, options: Options, start: int, updates: int, score: Score) -> Training:
    """The training with the settings that suit its data best.

    One setting is tried after the other, in their order, each with those before it as they were found; a value takes
    the place of another where it scores higher.

    Args:
      training: before its first step.
      options: by setting, the values to try; the first ones together are the first candidate.
      start: updates with the first candidate's settings, from where all of them go on.
      updates: of each candidate from there.
      score: compares the candidates.

    Raises:
      Preempted: it was asked to stop; the next call goes on with the candidate that was not finished.
    """
    record = training.directory / SEARCH
    known = _known(record)
    best = {name: float(values[0]) for name, values in options.items()}
    candidates = 1 + sum(len(values) - 1 for values in options.values())
    begin = training.stream.get_state()
    lengths = {"start": start, "updates": updates}
    with progress_bar(f"{training.settings.name} settings", start + candidates * updates, "step") as bar:
        first = dict(best)

        @functools.cache
        def common() -> tuple[TrainState, Any]:
            """The state from where all candidates go on, and where the data stands then."""
            return _trained(training, _with(training.state, first), start, bar.update), training.stream.get_state()

        def figures(values: Values) -> dict[str, float]:
            row = next((row for row in known if row["settings"] == values), None)
            if row is None:
                state, place = common()
                training.stream.set_state(place)
                trained = _trained(training, _with(state, values), updates, bar.update)
                row = {"settings": values, "figures": score(trained)}
                known.append(row)
                if hosts.is_first():
                    write_record(record, lengths | {"candidates": known, "chosen": None})
            return row["figures"]

        top = figures(best)["score"]
        for name, values in options.items():
            for value in values[1:]:
                candidate = best | {name: float(value)}
                if (found := figures(candidate)["score"]) > top:
                    best, top = candidate, found
    training.stream.set_state(begin)
    if hosts.is_first():
        write_record(record, lengths | {"candidates": known, "chosen": best})
    _tell(training.settings.name, known, best)
    return dataclasses.replace(training, state=_with(training.state, best))


def _known(record: pathlib.Path) -> list[dict[str, Any]]:
    found = hosts.of_first(lambda: read_record(record, "delete it") if record.is_file() else {})
    return list(found.get("candidates", []))


def _trained(training: Training, state: TrainState, updates: int, tick: Callable[[], Any]) -> TrainState:
    state = jax.tree.map(jnp.copy, state)  # a step takes over its state
    feed, rng = Feed(training.stream, training.mesh), replicate(training.rng, training.mesh)
    busy_with = None
    for step in range(updates):
        preemption.stop_if_requested()
        batch, _ = feed.take(busy_with, last=step == updates - 1)
        state, figures = training.step(state, batch, rng)
        busy_with = figures["loss"]
        tick()
    return jax.block_until_ready(state)  # what comes next is another program over all devices


def _with(state: TrainState, values: Values) -> TrainState:
    fitted = {name: jnp.full_like(state.rest[FITTED][name], value) for name, value in values.items()}
    return dataclasses.replace(state, rest={**state.rest, FITTED: {**state.rest[FITTED], **fitted}})


def _tell(name: str, known: list[dict[str, Any]], best: Values) -> None:
    for row in known:
        logger.info("%s: tried %s: score %.4g", name, _text(row["settings"]), row["figures"]["score"])
    logger.info("%s: taken %s", name, _text(best))


def _text(values: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in values.items())
