"""Checkpoints of a stage: `latest` to go on from, `best` to evaluate and to build the next stage on.

Resume policy, in this order: a stage whose latest sound checkpoint is at its last step, and validated, is finished;
otherwise training goes on from it, with the data stream where it stood; without any checkpoint it starts from the
initial model. Where there are checkpoints and none is sound, that is an error.

Where the best model is damaged, the same model out of the latest checkpoint of the same step takes its place; else the
best one before it, which is told and recorded ("instead_of"). So all who ask for the best model get the same one.
"""

import contextlib
import dataclasses
import logging
import pathlib
import shutil
from typing import Any

import jax

from fcam_jax.errors import InputError
from fcam_jax.runtime import hosts
from fcam_jax.runtime.files import link_or_copy
from fcam_jax.training.checkpoint_folder import CheckpointFolder
from fcam_jax.training.step import TrainState

logger = logging.getLogger(__name__)

# Folder of the checkpoints within that of their stage, and the two kinds in it.
CHECKPOINTS = "checkpoints"
BEST, LATEST = "best", "latest"
SOUND = "sound"  # the states that a remedy goes back to


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a checkpoint says of its run besides the state. Randomness is not part of it: it follows from seed and step.

    Attributes:
      step: steps done.
      data: state of the data stream after the last batch that was used.
      config: hash of the settings that the training depends on.
      validated: the last step that was validated; None before the first validation.
      best_step: step of the best model so far, or None before the first validation.
      best_value: the highest value of the selection metric so far, which is not always that model's (`choice.py`).
      best_metrics: all validation figures of the best model.
      instead_of: step of the best model that was lost, where that of `best_step` takes its place.
      unlogged: figures of the steps since the last line of the metric log.
      sums: of the figures of the epoch's steps up to that line, and "steps", how many these are.
      marks: what is wrong with the last epoch: why, by what.
      best_sound: whether the epoch of the best model had no mark that rules it out.
      remedied: the step after which training went back to a sound state.
    """

    step: int
    data: Any
    config: str = ""
    validated: int | None = None
    best_step: int | None = None
    best_value: float | None = None
    best_metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    instead_of: int | None = None
    unlogged: list[dict[str, float]] = dataclasses.field(default_factory=list)
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    marks: dict[str, str] = dataclasses.field(default_factory=dict)
    best_sound: bool = True
    remedied: int | None = None


class Checkpoints:
    """The checkpoints under a stage's folder. Saving is asynchronous; `close` waits for the last one.

    Of several processes all call every method, in the same order.

    Raises:
      InputError: from here and all methods, where the folder, this checkpoint or the one before it cannot be written.
    """

    def __init__(self, directory: pathlib.Path, training: bool = False, *, run: str = "", stage: str = ""):
        """Open the folder.

        Args:
          directory: that of the stage's checkpoints.
          training: whether this is the run that writes here, which first moves aside what is damaged, unless nothing
            is left then; others only read, and leave everything as it is.
          run: identity of the run that the checkpoints belong to; those of others count as damaged.
          stage: that they belong to.
        """
        self._directory, owner = directory.absolute(), {"run": run, "stage": stage}
        self._latest = CheckpointFolder(self._directory / LATEST, "state", training, owner)
        self._best = CheckpointFolder(self._directory / BEST, "model", training, owner)
        self._sound = CheckpointFolder(self._directory / SOUND, "state", training, owner)
        if training:
            hosts.of_first(self._tidy)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def progress(self) -> Progress | None:
        """Progress of the newest sound checkpoint to go on from, or None where there is no checkpoint.

        Raises:
          InputError: there are checkpoints, but none of them is sound.
        """
        step = self._latest.newest()
        if step is not None:
            return self._progress_of(step)
        if self._latest.steps() or any(self._best.steps()):  # of the best models only that of step 0 comes first
            raise InputError(
                f"none of the checkpoints in {self._latest.path} is sound; "
                f"delete {self._directory} to train this stage again"
            )
        return None

    def save(self, state: TrainState, progress: Progress) -> None:
        """Save the state to go on from; nothing is done where the step was saved before."""
        self._best.wait()  # the best model is on disk before the checkpoint that names it
        self._sound.wait()
        self._latest.save(progress.step, _as_dict(state), dataclasses.asdict(progress))

    def amend(self, progress: Progress) -> None:
        """Replace what the checkpoint of this step says of the run."""
        self._best.wait()
        self._sound.wait()
        self._latest.amend(progress.step, dataclasses.asdict(progress))

    def restore(self, like: TrainState) -> TrainState:
        """The state of the newest sound checkpoint, placed on devices as `like` is.

        Raises:
          InputError: when it cannot be read or belongs to another model.
        """
        step = self._latest.newest()
        assert step is not None, "ask `progress` first"
        return TrainState(**self._latest.restore(step, _as_dict(like)))

    def save_sound(self, state: TrainState) -> None:
        """Save a state that a remedy may go back to."""
        self._one_at_a_time()
        self._sound.save(int(state.step), _as_dict(state), {})

    def restore_sound(self, like: TrainState) -> TrainState | None:
        """The newest such state before that of `like`, placed as it is; None where there is none."""
        step = self._sound.newest(below=int(like.step))
        return None if step is None else TrainState(**self._sound.restore(step, _as_dict(like)))

    def save_best(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Save the model that is best so far, with its validation metrics."""
        self._one_at_a_time()
        step = int(state.step)
        self._best.save(step, {"params": state.params, "rest": state.rest}, {"step": step, "val": metrics})

    def mend_best(self, progress: Progress, state: TrainState, selection: str) -> Progress:
        """What to go on with where the best model is damaged; the same progress where it is not.

        Args:
          progress: of the newest sound checkpoint.
          state: gives the shapes of a model.
          selection: the metric that best models are chosen by.

        Raises:
          InputError: no best model is left.
        """
        if progress.best_step is None or self._best.is_sound(progress.best_step):
            return progress
        params, rest, record = self.restore_model(state.params, state.rest)
        if record["step"] == progress.best_step:
            facts = {"step": progress.best_step, "val": progress.best_metrics}
            self._best.save(progress.best_step, {"params": params, "rest": rest}, facts)
            return progress
        return dataclasses.replace(
            progress,
            best_step=record["step"],
            best_value=record["val"][selection],
            best_metrics=record["val"],
            instead_of=record["instead_of"],
        )

    def restore_model(
        self, params: dict[Any, Any], rest: dict[Any, Any], kind: str = BEST, step: int | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any], dict[str, Any]]:
        """Parameters, other variables and record ("step", "val") of the model of a checkpoint.

        Args:
          params: trainable variables of a model of the same structure, for shapes and placement.
          rest: its other variables.
          kind: "best" or "latest", which has no validation figures in its record.
          step: that of the checkpoint; by default the best one, or the newest sound one.

        Raises:
          InputError: when there is none, it cannot be read, it is damaged and was asked for by its step, or it belongs
            to another model.
        """
        folder, record = self._chosen(kind) if step is None else self._asked(kind, step)
        like = {"params": params, "rest": rest}
        restore = folder.restore if folder is self._best else folder.restore_part
        model = restore(record["step"], like)
        return model["params"], model["rest"], record

    def keep(self, out: pathlib.Path) -> int | None:
        """Put the newest sound checkpoint to go on from into another folder, too; returns its step.

        Files are hard links where the file system has them.
        """
        self._latest.wait()
        step = self._latest.newest()
        if step is not None and hosts.is_first():
            source = self._latest.path / str(step)
            shutil.copytree(source, out / str(step), copy_function=link_or_copy, dirs_exist_ok=True)
        return step

    def _one_at_a_time(self) -> None:
        """Of several processes, wait for what is being written.

        Orbax's threads meet those of other processes at barriers whose names hang on a number of the newest save. Of
        two saves at once each process may take another number: they would wait for each other until Orbax gives up.
        """
        if jax.process_count() > 1:
            self.wait()

    def wait(self) -> None:
        """Wait for what is being written."""
        for folder in (self._best, self._sound, self._latest):
            folder.wait()

    def close(self) -> None:
        """Wait for what is being written, and let go."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._latest.close)
            stack.callback(self._best.close)
            stack.callback(self._sound.close)

    def _tidy(self) -> None:
        if not self._latest.has_only_damage():
            self._latest.tidy()
            self._best.tidy()
            self._sound.tidy()

    def _progress_of(self, step: int) -> Progress:
        try:
            return Progress(**self._latest.facts(step))
        except TypeError as error:
            raise InputError(
                f"the checkpoint {self._latest.path / str(step)} is of another version of this program; "
                "use a new workdir"
            ) from error

    def _asked(self, kind: str, step: int) -> tuple[CheckpointFolder, dict[str, Any]]:
        """The checkpoint of a kind and step, and its record."""
        folder = self._best if kind == BEST else self._latest
        steps = folder.steps()
        if step not in steps:
            there = ", ".join(map(str, reversed(steps))) or "none"
            raise InputError(f"no checkpoint of step {step} in {folder.path}; there: {there}")
        if problem := folder.refusal(step):
            raise InputError(
                f"the checkpoint {folder.path / str(step)} cannot be used ({problem}); "
                f"give {folder.path} instead, for the newest one that is sound"
            )
        return folder, folder.facts(step) if kind == BEST else {"step": step, "val": {}}

    def _chosen(self, kind: str) -> tuple[CheckpointFolder, dict[str, Any]]:
        """The checkpoint that the best, or the latest, model is read from, and its record."""
        progress = self.progress()
        wanted = None if progress is None else progress.best_step if kind == BEST else progress.step
        if progress is None or wanted is None:
            raise InputError(f"no checkpoint in {self._directory}; train first")
        if kind == LATEST:
            return self._latest, {"step": wanted, "val": {}}
        if self._latest.steps()[0] > progress.step:  # what tells the best one is damaged, which itself may not be
            wanted = max(wanted, self._best.newest() or 0)
        lost = {} if progress.instead_of is None else {"instead_of": progress.instead_of}
        if wanted in self._best.steps() and self._best.is_sound(wanted):
            return self._best, self._best.facts(wanted) | lost
        if wanted in self._latest.steps() and self._latest.is_sound(wanted):
            return self._latest, {"step": wanted, "val": progress.best_metrics} | lost
        older = self._best.newest(below=wanted)
        if older is None:
            raise InputError(
                f"the best model in {self._directory}, of step {wanted}, is damaged or missing, and so is the one "
                f"before it; delete {self._directory} to train this stage again"
            )
        logger.warning(
            "%s: the best model, of step %d, is lost; the best one before it, of step %d, takes its place",
            self._directory,
            wanted,
            older,
        )
        return self._best, {"instead_of": wanted} | self._best.facts(older) | lost


def _as_dict(state: TrainState) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
