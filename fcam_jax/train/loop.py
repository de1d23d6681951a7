"""The training loop of one stage: steps, validation after every epoch, checkpoints, and resumption."""

import dataclasses
import logging
import math
import pathlib
import time
from collections.abc import Callable

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from fcam_jax.errors import InputError, unknown_name
from fcam_jax.progress import progress_bar
from fcam_jax.train.checkpoint import CHECKPOINTS, Checkpoints, Progress
from fcam_jax.train.feed import DataStream, Feed
from fcam_jax.train.metric_log import MetricLog
from fcam_jax.train.step import TrainState, TrainStep, replicate

logger = logging.getLogger(__name__)

# The selection by which a later model is always better, for data without ground truth to validate on.
LAST = "last"

Validate = Callable[[TrainState], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop.

    Attributes:
      name: the stage's name, for people.
      epochs: length of the training.
      steps_per_epoch: steps from one validation to the next.
      log_steps: steps between two lines of the log; figures stay on the device in between.
      selection: validation metric by which the best model is chosen, its first maximum wins; or "last", the newest.
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
            key = replicate(rng, mesh)
            _Loop(train_step, stream, Feed(stream, mesh), validate, key, settings, checkpoints, log).run(
                state, progress
            )
        finally:
            log.close()
    finally:
        checkpoints.close()


@dataclasses.dataclass
class _Loop:
    train_step: TrainStep
    stream: DataStream
    feed: Feed
    validate: Validate
    rng: Key[Array, ""]
    settings: LoopSettings
    checkpoints: Checkpoints
    log: MetricLog
    data_wait: float = 0.0  # share of the last epoch in which the devices waited for data, in percent

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
        began_at, waited_before = seen_at, waited = time.monotonic(), self.feed.waited
        busy_with = None
        data = progress.data
        title = f"{self.settings.name} epoch {epoch + 1}/{self.settings.epochs}"
        with progress_bar(title, per_epoch, "step", done=progress.step % per_epoch) as bar:
            for step in range(progress.step + 1, end + 1):
                try:
                    batch, data = self.feed.take(busy_with, last=step == self.settings.steps)
                except InputError:
                    self.checkpoints.save(state, dataclasses.replace(progress, step=step - 1, data=data))
                    raise
                state, metrics = self.train_step(state, batch, self.rng)
                busy_with = metrics["loss"]
                unlogged.append(metrics)
                bar.update()
                if step % self.settings.log_steps == 0 or step == end:
                    values = self._log(step, unlogged, seen_at, self.feed.waited - waited)
                    bar.set_postfix(loss=f"{values['loss']:.4f}", data_wait=f"{values['data_wait']:.0f} %")
                    unlogged, seen_at, waited = [], time.monotonic(), self.feed.waited
        self.data_wait = 100 * (self.feed.waited - waited_before) / (time.monotonic() - began_at)
        return state, dataclasses.replace(progress, step=end, data=data)

    def _log(self, step: int, metrics: list[dict[str, jax.Array]], since: float, waited: float) -> dict[str, float]:
        rows = jax.device_get(metrics)  # waits for the steps, so the clock is read after it
        seconds = time.monotonic() - since
        values = {name: float(sum(row[name] for row in rows) / len(rows)) for name in rows[0]}
        if not math.isfinite(values["loss"]):
            raise InputError(
                f"{self.settings.name}: the loss is not finite within steps {step - len(rows) + 1} to {step}; lower "
                "the learning rate (the last checkpoint is sound, and training goes on from it)"
            )
        values |= {"steps_per_second": len(rows) / seconds, "data_wait": 100 * waited / seconds}
        self.log.write(step, "train", values)
        return values

    def _validate_and_save(self, state: TrainState, progress: Progress) -> Progress:
        values = self.validate(state)
        self.log.write(progress.step, "val", values)
        if self.settings.selection == LAST:
            values = values | {LAST: float(progress.step)}
        if self.settings.selection not in values:
            raise unknown_name("config.validation.selection", self.settings.selection, [*values, LAST])
        value = values[self.settings.selection]
        if progress.best_value is None or value > progress.best_value:
            self.checkpoints.save_best(state, values)
            progress = dataclasses.replace(progress, best_step=progress.step, best_value=value)
        self.checkpoints.save(state, progress)
        settings = self.settings
        chosen = f"val {settings.selection} {value:.2f} (best {progress.best_value:.2f})"
        logger.info(
            "%s: epoch %d of %d, %s, waiting for data %.1f %%",
            settings.name,
            progress.step // settings.steps_per_epoch,
            settings.epochs,
            "the last model counts" if settings.selection == LAST else chosen,
            self.data_wait,
        )
        return progress
