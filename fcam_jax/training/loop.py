"""The training loop of one stage: steps, validation after every epoch, checkpoints, and resumption."""

import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from fcam_jax.errors import InputError, unknown_name
from fcam_jax.methods.contract import LAST
from fcam_jax.methods.soundness import Mark, Watch
from fcam_jax.runtime import preemption, watchdog
from fcam_jax.runtime.progress import progress_bar
from fcam_jax.training.checkpoint import CHECKPOINTS, Checkpoints, Progress
from fcam_jax.training.choice import replaces
from fcam_jax.training.feed import DataStream, Feed
from fcam_jax.training.guards import Interval, NotFiniteError, Spikes, Warnings, record_failure
from fcam_jax.training.metric_log import MetricLog, logged
from fcam_jax.training.placed import replicate
from fcam_jax.training.settings import LoopSettings
from fcam_jax.training.step import TrainState, TrainStep

logger = logging.getLogger(__name__)

# Folder of what is kept of a failure, in that of the stage.
FAILED = "failed"

Validate = Callable[[TrainState], dict[str, float]]
# Called with the state and the number of epochs done.
OnEpoch = Callable[[TrainState, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """What a stage is trained with.

    Attributes:
      state: initial state.
      step: the compiled step; it takes over the state.
      stream: training batches of this host.
      validate: metrics of a state on the validation split.
      mesh: the devices.
      rng: base of the steps' random keys.
      directory: the stage's folder; it gets `checkpoints/` and the metric log.
      settings: length and intervals.
      config: hash of the settings that the training depends on; it does not go on from checkpoints of another.
      image_name: what an image is called, by its position in the training split.
      watch: what is watched of the epochs' figures.
      on_epoch: looks at the state before the first epoch and after each, once that is validated; where the training
        goes on from the end of an epoch, at that once more.
    """

    state: TrainState
    step: TrainStep
    stream: DataStream
    validate: Validate
    mesh: Mesh
    rng: Key[Array, ""]
    directory: pathlib.Path
    settings: LoopSettings
    config: str = ""
    image_name: Callable[[int], str] = str
    watch: Watch = dataclasses.field(default_factory=Watch)
    on_epoch: OnEpoch = lambda state, epoch: None


def train(training: Training, checkpoints: Checkpoints) -> None:
    """Train a stage to its end, or go on with it; nothing is done where it is finished.

    The state is saved after every epoch, while it is validated, and within epochs after `checkpoint_steps`; and before
    the loop stops for a request (`runtime/preemption.py`) or for data that fails. A state that is not finite is never
    saved. The initial model is validated before the first step.

    Args:
      checkpoints: of the stage, opened for training.

    Raises:
      InputError: for a checkpoint that cannot be used or written, bad data, or a loss that is not finite.
      Preempted: it was asked to stop.
    """
    settings, state, progress = training.settings, training.state, checkpoints.progress()
    if progress is not None:
        if is_finished(progress, settings):
            logger.info("%s: finished before, best at step %s", settings.name, progress.best_step)
            return
        _check_config(progress, training.config, training.directory)
        state = checkpoints.restore(state)
        progress = checkpoints.mend_best(progress, state, settings.selection)
        training.stream.set_state(progress.data)
        logger.info("%s: going on from step %d of %d", settings.name, progress.step, settings.steps)
    progress = progress or Progress(0, training.stream.get_state(), training.config)
    log = MetricLog(training.directory, progress.step if progress.validated is not None else -1, progress.validated)
    try:
        with watchdog.watching(settings.name, settings.watchdog_seconds):
            _Loop(training, checkpoints, log).run(state, progress)
    finally:
        log.close()
        checkpoints.wait()


def is_finished(progress: Progress, settings: LoopSettings) -> bool:
    """Whether nothing of a stage is left to be done."""
    return progress.step >= settings.steps and not settings.needs_validation(progress)


def _check_config(progress: Progress, config: str, directory: pathlib.Path) -> None:
    if progress.config != config:
        raise InputError(
            f"{directory / CHECKPOINTS} holds the checkpoints of a run of another configuration "
            f"({progress.config or 'unknown'} there, {config or 'unknown'} now); use another folder"
        )


class _Loop:
    def __init__(self, training: Training, checkpoints: Checkpoints, log: MetricLog):
        self.training, self.settings = training, training.settings
        self.checkpoints, self.log = checkpoints, log
        self.feed, self.rng = Feed(training.stream, training.mesh), replicate(training.rng, training.mesh)
        self.spikes = Spikes(row["loss"] for row in logged(training.directory, "train").values() if "loss" in row)
        self.data_wait = 0.0  # share of the last epoch in which the devices waited for data, in percent

    def run(self, state: TrainState, progress: Progress) -> None:
        if progress.validated is None:  # before it is saved: a setting that validation refuses leaves no checkpoint
            progress = self._validated(state, progress)
            self.checkpoints.save(state, progress)
        elif self.settings.needs_validation(progress):
            progress = self._validated(state, progress)
            self.checkpoints.amend(progress)
        if progress.step % self.settings.steps_per_epoch == 0:
            self._show(state, progress)
        while progress.step < self.settings.steps:
            with preemption.deferred():
                state, progress = self._epoch(*self._remedied(state, progress))
                self.checkpoints.save(state, progress)  # on its way to the disk while it is validated
            progress = self._validated(state, progress)
            watchdog.at("the checkpoint of the epoch")
            self.checkpoints.amend(progress)
            self._show(state, progress)

    def _show(self, state: TrainState, progress: Progress) -> None:
        watchdog.at("the picture of the epoch")
        self.training.on_epoch(state, progress.step // self.settings.steps_per_epoch)

    def _epoch(self, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
        """The steps up to the end of the epoch; the state that is returned is finite."""
        settings, per_epoch = self.settings, self.settings.steps_per_epoch
        epoch, begun = divmod(progress.step, per_epoch)
        if not begun:
            progress = dataclasses.replace(progress, sums={})
        end = (epoch + 1) * per_epoch
        title = f"{settings.name} epoch {epoch + 1}/{settings.epochs}"
        interval, warnings = Interval(progress.unlogged, progress.step), Warnings(title)
        began_at, waited_before = seen_at, waited = time.monotonic(), self.feed.waited
        busy_with = None
        with progress_bar(title, per_epoch, "step", done=progress.step % per_epoch) as bar:
            for step in range(progress.step + 1, end + 1):
                if preemption.requested():
                    self._save_and_stop(state, progress, interval)
                watchdog.at(f"data: the batch of step {step}")
                try:
                    batch, data = self.feed.take(busy_with, last=step == settings.steps)
                except InputError:
                    if jax.process_count() == 1:  # to save takes all hosts, and the others have their batch
                        self._save(state, progress, interval)
                    raise
                watchdog.at(f"the device: step {step}")
                state, metrics = self.training.step(state, batch, self.rng)
                busy_with = metrics["loss"]
                interval.add(metrics, batch)
                progress = dataclasses.replace(progress, step=step, data=data)
                bar.update()
                if step % settings.log_steps == 0 or step == end:
                    rows = self._check(state, interval)  # waits for the steps, so the clock is read after it
                    values = self._log(rows, step, seen_at, self.feed.waited - waited)
                    progress = dataclasses.replace(progress, sums=_summed(progress.sums, rows))
                    warnings.look_at(step, values)
                    bar.set_postfix(loss=f"{values['loss']:.4f}", data_wait=f"{values['data_wait']:.0f} %")
                    interval, seen_at, waited = Interval([], step), time.monotonic(), self.feed.waited
                if settings.checkpoint_steps and step % settings.checkpoint_steps == 0 and step < end:
                    self._save(state, progress, interval)
        self.data_wait = 100 * (self.feed.waited - waited_before) / (time.monotonic() - began_at)
        return state, dataclasses.replace(progress, unlogged=[])

    def _check(self, state: TrainState, interval: Interval) -> list[dict[str, float]]:
        """The figures of an interval, once they and the state are known to be finite."""
        try:
            return interval.check(state)
        except NotFiniteError as error:
            folder = self.training.directory / FAILED
            line = record_failure(folder, error, state, self.checkpoints, self.training.image_name)
            raise InputError(f"{self.settings.name}: {line}") from error

    def _save(self, state: TrainState, progress: Progress, interval: Interval) -> None:
        watchdog.at(f"the checkpoint of step {progress.step}")
        rows = self._check(state, interval)
        self.checkpoints.save(state, dataclasses.replace(progress, unlogged=rows))

    def _save_and_stop(self, state: TrainState, progress: Progress, interval: Interval) -> None:
        self._save(state, progress, interval)
        self.checkpoints.wait()
        logger.info("%s: asked to stop, saved at step %d of %d", self.settings.name, progress.step, self.settings.steps)
        preemption.stop()

    def _log(self, rows: list[dict[str, float]], step: int, since: float, waited: float) -> dict[str, float]:
        seconds = time.monotonic() - since
        values = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        values["loss_spikes"] = float(self.spikes.count([row["loss"] for row in rows]))
        values |= {"steps_per_second": len(rows) / seconds, "data_wait": 100 * waited / seconds}
        self.log.write(step, "train", values)
        return values

    def _validated(self, state: TrainState, progress: Progress) -> Progress:
        """The progress after a validation; a model that is the best is being saved then."""
        watchdog.at("validation")
        values = self.training.validate(state)
        self.log.write(progress.step, "val", values)
        selection = self.settings.selection
        if selection == LAST:
            values = values | {LAST: float(progress.step)}
        if selection not in values:
            raise unknown_name("config.validation.selection", selection, [*values, LAST])
        marks, known = self._marks(progress), progress.marks
        sound = all(mark.sound for mark in marks)
        if self.training.watch.remedy and sound and progress.remedied is None:
            self.checkpoints.save_sound(state)
        taken, highest = self._choice(progress, values, sound)
        progress = dataclasses.replace(
            progress, validated=progress.step, best_value=highest, marks={one.name: one.why for one in marks}
        )
        if taken:
            self.checkpoints.save_best(state, values)
            progress = dataclasses.replace(
                progress, best_step=progress.step, best_metrics=values, best_sound=sound, instead_of=None
            )
        self._tell(progress, values)
        if not self._needs_remedy(progress):
            at_end = progress.step == self.settings.steps
            self._warn(progress, [mark for mark in marks if at_end or mark.name not in known])
        return progress

    def _choice(self, progress: Progress, values: Mapping[str, float], sound: bool) -> tuple[bool, float]:
        """Whether a model takes the place of the best one, and the highest figure so far of those that count.

        A sound one counts before all unsound ones. The untrained model, which nobody knows, counts by its figure.
        """
        by, best = self.settings.selection, progress.best_value
        if best is None:
            return True, values[by]
        if progress.best_step and sound != progress.best_sound:
            return sound, values[by] if sound else best
        highest = max(values[by], best)
        return replaces(values, progress.best_metrics, highest, by, self.settings.ties), highest

    def _marks(self, progress: Progress) -> tuple[Mark, ...]:
        """What is wrong with the epoch that has ended; before the first step nothing is known."""
        means, step = _means(progress), progress.step
        ahead = range(step, min(step + self.settings.steps_per_epoch, self.settings.steps))
        return self.training.watch.marks(means, ahead) if means else ()

    def _needs_remedy(self, progress: Progress) -> bool:
        """Whether an epoch has ended unsound, there are epochs to come, and nothing was done about it yet."""
        at_an_end = progress.validated == progress.step < self.settings.steps
        if self.training.watch.remedy is None or progress.remedied is not None or not at_an_end:
            return False
        return not all(mark.sound for mark in self._marks(progress))

    def _remedied(self, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
        """What to go on with: after an unsound epoch once the last sound state, changed. Steps that are done count."""
        remedy = self.training.watch.remedy
        if remedy is None or not self._needs_remedy(progress):
            return state, progress
        sound = self.checkpoints.restore_sound(state)
        if sound is None:
            self._warn(progress, self._marks(progress))
        else:
            epoch = int(sound.step) // self.settings.steps_per_epoch
            cure = f"going back to epoch {epoch}, and on with a smaller weight ({self.settings.name}.remedy)"
            self._warn(progress, self._marks(progress), cure)
            state = dataclasses.replace(sound, step=state.step, rest=remedy(sound.rest))
        return state, dataclasses.replace(progress, marks={}, remedied=progress.step)

    def _warn(self, progress: Progress, marks: Sequence[Mark], cure: str = "") -> None:
        settings = self.settings
        epoch = f"epoch {progress.step // settings.steps_per_epoch} of {settings.epochs}"
        for mark in marks:
            logger.warning("%s: %s at %s (%s): %s", settings.name, mark.name, epoch, mark.why, cure or mark.cure)

    def _tell(self, progress: Progress, val: Mapping[str, float]) -> None:
        settings = self.settings
        told = [f"epoch {progress.step // settings.steps_per_epoch} of {settings.epochs}"]
        means = _means(progress)
        told += [f"{name} {means[name]:.{digits}f}" for name, digits in (("loss", 4), ("accuracy", 1)) if name in means]
        told += self.training.watch.told(means) if means else []
        if settings.selection == LAST:
            is_kept = progress.best_step == progress.step
            told.append("the last model counts" if is_kept else f"the model of step {progress.best_step} is kept")
        else:
            figures = [name for name in (settings.selection, settings.ties) if name in val]
            told += [f"val {name} {val[name]:.2f} (kept {progress.best_metrics[name]:.2f})" for name in figures]
        logger.info("%s: %s, waiting for data %.1f %%", settings.name, ", ".join(told), self.data_wait)


def _summed(sums: Mapping[str, float], rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sums with the figures of further steps."""
    total = dict(sums)
    for row in rows:
        for name, value in {"steps": 1.0, **row}.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _means(progress: Progress) -> dict[str, float]:
    """Mean figures of the steps of an epoch; none before the first step."""
    return {name: value / progress.sums["steps"] for name, value in progress.sums.items() if name != "steps"}
