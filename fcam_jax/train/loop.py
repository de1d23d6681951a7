"""The training loop of one stage: steps, validation after every epoch, checkpoints, and resumption."""

import dataclasses
import logging
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from fcam_jax.errors import InputError, unknown_name
from fcam_jax.progress import progress_bar
from fcam_jax.train.checkpoint import CHECKPOINTS, Checkpoints, Progress
from fcam_jax.train.metric_log import MetricLog
from fcam_jax.train.step import TrainState, TrainStep, spread
from fcam_jax.types import Batch

logger = logging.getLogger(__name__)

Validate = Callable[[TrainState], dict[str, float]]


@runtime_checkable
class DataStream(Protocol):
    """An endless stream of batches that can be put back to where it stood."""

    def __next__(self) -> Batch:
        """The next batch."""
        ...

    def get_state(self) -> Any:
        """Where the stream stands, as JSON data."""
        ...

    def set_state(self, state: Any) -> None:
        """Put the stream back to where it stood."""
        ...


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop.

    Attributes:
      name: the stage's name, for people.
      epochs: length of the training.
      steps_per_epoch: steps from one validation to the next.
      log_steps: steps between two lines of the log; figures stay on the device in between.
      selection: validation metric by which the best model is chosen; its first maximum wins.
    """

    name: str
    epochs: int
    steps_per_epoch: int
    log_steps: int
    selection: str

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.steps_per_epoch


def train(
    state: TrainState,
    train_step: TrainStep,
    stream: DataStream,
    validate: Validate,
    mesh: Mesh,
    rng: Key[Array, ""],
    directory: pathlib.Path,
    settings: LoopSettings,
) -> None:
    """Train a stage to its end, or go on with it; nothing is done where it is finished.

    The model is validated before the first step and after every epoch, and then saved. When the data fails, the state
    before the failing batch is saved too, so nothing is lost.

    Args:
      state: initial state.
      train_step: the compiled step; it takes over the state.
      stream: training batches of this host.
      validate: metrics of a state on the validation split.
      mesh: the devices.
      rng: base of the steps' random keys.
      directory: the stage's folder; it gets `checkpoints/` and the metric log.
      settings: length and intervals.

    Raises:
      InputError: for a checkpoint that cannot be used, bad data, or a loss that is not finite.
    """
    checkpoints = Checkpoints(directory / CHECKPOINTS)
    try:
        progress = checkpoints.progress()
        if progress is not None:
            if progress.step >= settings.steps:
                logger.info("%s: finished before, best at step %s", settings.name, progress.best_step)
                return
            state = checkpoints.restore(state)
            stream.set_state(progress.data)
            logger.info("%s: going on from step %d of %d", settings.name, progress.step, settings.steps)
        log = MetricLog(directory, resumed_step=progress.step if progress else -1)
        try:
            _Loop(train_step, stream, validate, mesh, rng, settings, checkpoints, log).run(state, progress)
        finally:
            log.close()
    finally:
        checkpoints.close()


@dataclasses.dataclass
class _Loop:
    train_step: TrainStep
    stream: DataStream
    validate: Validate
    mesh: Mesh
    rng: Key[Array, ""]
    settings: LoopSettings
    checkpoints: Checkpoints
    log: MetricLog

    def run(self, state: TrainState, progress: Progress | None) -> None:
        if progress is None:
            progress = self._validate_and_save(state, Progress(0, None, None, self.stream.get_state()))
        for _ in range(progress.step // self.settings.steps_per_epoch, self.settings.epochs):
            state, progress = self._epoch(state, progress)
            progress = self._validate_and_save(state, progress)

    def _epoch(self, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
        per_epoch = self.settings.steps_per_epoch
        epoch = progress.step // per_epoch
        end = (epoch + 1) * per_epoch
        unlogged: list[dict[str, jax.Array]] = []
        seen_at = time.monotonic()
        data = progress.data
        title = f"{self.settings.name} epoch {epoch + 1}/{self.settings.epochs}"
        with progress_bar(title, per_epoch, "step", done=progress.step % per_epoch) as bar:
            for step in range(progress.step + 1, end + 1):
                try:
                    batch = next(self.stream)
                except InputError:
                    self.checkpoints.save(state, dataclasses.replace(progress, step=step - 1, data=data))
                    raise
                data = self.stream.get_state()
                state, metrics = self.train_step(state, spread(batch, self.mesh), self.rng)
                unlogged.append(metrics)
                bar.update()
                if step % self.settings.log_steps == 0 or step == end:
                    values = self._log(step, unlogged, seen_at)
                    bar.set_postfix(loss=f"{values['loss']:.4f}")
                    unlogged, seen_at = [], time.monotonic()
        return state, dataclasses.replace(progress, step=end, data=data)

    def _log(self, step: int, metrics: list[dict[str, jax.Array]], since: float) -> dict[str, float]:
        rows = jax.device_get(metrics)  # waits for the steps, so the clock is read after it
        seconds = time.monotonic() - since
        values = {name: float(sum(row[name] for row in rows) / len(rows)) for name in rows[0]}
        if not math.isfinite(values["loss"]):
            raise InputError(
                f"{self.settings.name}: the loss is not finite within steps {step - len(rows) + 1} to {step}; lower "
                "the learning rate (the last checkpoint is sound, and training goes on from it)"
            )
        self.log.write(step, "train", {**values, "steps_per_second": len(rows) / seconds})
        return values

    def _validate_and_save(self, state: TrainState, progress: Progress) -> Progress:
        values = self.validate(state)
        self.log.write(progress.step, "val", values)
        if self.settings.selection not in values:
            raise unknown_name("config.validation.selection", self.settings.selection, values)
        value = values[self.settings.selection]
        if progress.best_value is None or value > progress.best_value:
            self.checkpoints.save_best(state, values)
            progress = dataclasses.replace(progress, best_step=progress.step, best_value=value)
        self.checkpoints.save(state, progress)
        logger.info(
            "%s: epoch %d of %d, val %s %.2f (best %.2f)",
            self.settings.name,
            progress.step // self.settings.steps_per_epoch,
            self.settings.epochs,
            self.settings.selection,
            value,
            progress.best_value,
        )
        return progress
