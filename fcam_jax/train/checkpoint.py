"""Checkpoints of a stage, by Orbax: `latest` to go on from, `best` to evaluate and to build the next stage on.

Resume policy, in this order: a stage whose latest checkpoint is at its last step is finished; otherwise training goes
on from the latest checkpoint, with the data stream where it stood; without one it starts from the initial model.
The best model is on disk before the checkpoint that names it.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp

from fcam_jax.errors import InputError
from fcam_jax.train.step import TrainState

# Folder of the checkpoints within that of their stage, and the two kinds in it.
CHECKPOINTS = "checkpoints"
BEST, LATEST = "best", "latest"


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a checkpoint says of its run besides the state.

    Attributes:
      step: steps done.
      best_step: step of the best model so far, or None before the first validation.
      best_value: its value of the selection metric.
      data: state of the data stream after the last batch that was used.
    """

    step: int
    best_step: int | None
    best_value: float | None
    data: Any


class Checkpoints:
    """The checkpoints under a stage's folder. Saving is asynchronous; `close` waits for the last one."""

    def __init__(self, directory: pathlib.Path):
        # Two of each are kept: the one before the newest still serves when a crash interrupts its successor.
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        self._directory = directory.absolute()
        arrays, facts = ocp.StandardCheckpointHandler, ocp.JsonCheckpointHandler
        self._latest = ocp.CheckpointManager(
            self._directory / LATEST, options=options, item_handlers={"state": arrays(), "progress": facts()}
        )
        self._best = ocp.CheckpointManager(
            self._directory / BEST, options=options, item_handlers={"model": arrays(), "record": facts()}
        )

    def progress(self) -> Progress | None:
        """Progress of the latest checkpoint, or None where there is no checkpoint."""
        step = self._latest.latest_step()
        if step is None:
            return None
        return Progress(**self._restore(self._latest, step, progress=ocp.args.JsonRestore())["progress"])

    def save(self, state: TrainState, progress: Progress) -> None:
        """Save the state to go on from. A best model that is still being written is waited for."""
        self._best.wait_until_finished()
        if progress.step in self._latest.all_steps():
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_as_dict(state)), progress=ocp.args.JsonSave(dataclasses.asdict(progress))
        )
        self._latest.save(progress.step, args=args, force=True)

    def restore(self, like: TrainState) -> TrainState:
        """The state of the latest checkpoint, placed on devices as `like` is.

        Raises:
          InputError: when it cannot be read or belongs to another model.
        """
        step = self._latest.latest_step()
        assert step is not None, "ask `progress` first"
        target = ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, _as_dict(like)))
        return TrainState(**self._restore(self._latest, step, state=target)["state"])

    def save_best(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Save the model that is best so far, with its validation metrics."""
        step = int(state.step)
        if step in self._best.all_steps():
            return
        args = ocp.args.Composite(
            model=ocp.args.StandardSave({"params": state.params, "rest": state.rest}),
            record=ocp.args.JsonSave({"step": step, "val": metrics}),
        )
        self._best.save(step, args=args, force=True)

    def restore_model(
        self, params: dict[Any, Any], rest: dict[Any, Any], kind: str = BEST, step: int | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any], dict[str, Any]]:
        """Parameters, other variables and record ("step", "val") of the model of a checkpoint.

        Args:
          params: trainable variables of a model of the same structure, for shapes and placement.
          rest: its other variables.
          kind: "best" or "latest", which has no validation figures in its record.
          step: that of the checkpoint; by default the best one, or the newest.

        Raises:
          InputError: when there is none, it cannot be read, or it belongs to another model.
        """
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, {"params": params, "rest": rest})
        step = self._step(kind, step)
        if kind == BEST:
            items = self._restore(self._best, step, model=ocp.args.StandardRestore(like), record=ocp.args.JsonRestore())
            return items["model"]["params"], items["model"]["rest"], items["record"]
        model = self._read(self._latest, step, {"state": like}, lambda: _model_of_state(self._latest, step, like))
        return model["params"], model["rest"], {"step": step, "val": {}}

    def close(self) -> None:
        """Wait for what is being written."""
        self._best.close()
        self._latest.close()

    def _step(self, kind: str, step: int | None) -> int:
        """The step of the checkpoint that is meant."""
        manager = self._best if kind == BEST else self._latest
        kept = manager.all_steps()
        if step is None:
            progress = self.progress()
            step = None if progress is None else progress.best_step if kind == BEST else progress.step
            if step is None:
                raise InputError(f"no checkpoint in {self._directory}; train first (--mode=train)")
        elif step not in kept:
            there = ", ".join(map(str, kept)) or "none"
            raise InputError(f"no checkpoint of step {step} in {manager.directory}; there: {there}")
        return step

    def _restore(self, manager: ocp.CheckpointManager, step: int, **items: Any) -> Any:
        trees = {name: item.item for name, item in items.items() if isinstance(item, ocp.args.StandardRestore)}
        return self._read(manager, step, trees, lambda: manager.restore(step, args=ocp.args.Composite(**items)))

    def _read(self, manager: ocp.CheckpointManager, step: int, trees: dict[str, Any], read: Callable[[], Any]) -> Any:
        """What `read` reads of a checkpoint, whose items must hold the variables of `trees`."""
        path = manager.directory / str(step)
        try:
            stored = manager.item_metadata(step)
            for name, tree in trees.items():
                _check_same_model(path, stored[name], tree)
            return read()
        except InputError:
            raise
        except Exception as error:  # Orbax has no common base: damage raises half a dozen types.
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            # The best checkpoint is named by the latest one, so there it is the stage that has to start again.
            cure = (
                f"delete {path} to go on from the checkpoint before it"
                if manager is self._latest
                else f"delete {self._directory} to train this stage again"
            )
            raise InputError(f"checkpoint {path} is damaged ({first_line}); {cure}") from error


def _model_of_state(manager: ocp.CheckpointManager, step: int, like: dict[str, Any]) -> Any:
    """Parameters and other variables out of a checkpoint to go on from; the optimiser's are not read."""
    args = ocp.args.PyTreeRestore(
        item=like, restore_args=ocp.checkpoint_utils.construct_restore_args(like), partial_restore=True
    )
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(manager.directory / str(step) / "state", args=args)


def _check_same_model(path: Any, stored: Any, wanted: Any) -> None:
    """Compare shapes before anything is read, so that the message can name what differs."""
    there, here = (_shapes({part: tree[part] for part in ("params", "rest")}) for tree in (stored, wanted))
    different = [
        f"{name}: {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise InputError(f"checkpoint {path} belongs to another model ({'; '.join(different[:3])}{more})")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {
        "/".join(str(getattr(entry, "key", getattr(entry, "idx", entry))) for entry in keys): tuple(leaf.shape)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def saved_progress(directory: pathlib.Path) -> Progress | None:
    """Progress of the latest checkpoint in a folder, or None where there is none."""
    checkpoints = Checkpoints(directory)
    try:
        return checkpoints.progress()
    finally:
        checkpoints.close()


def _as_dict(state: TrainState) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
