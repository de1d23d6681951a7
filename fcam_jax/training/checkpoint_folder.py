"""The checkpoints of one kind in their folder, by Orbax, each with a manifest (`training/manifest.py`).

A checkpoint is written beside the training (asynchronously) under a temporary name, and gets its own, the number of its
step, when all of it is there. It is verified before it is used. A damaged one is named and left out.
"""

import contextlib
import functools
import itertools
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from fcam_jax.errors import OF_THE_DISK, InputError
from fcam_jax.runtime import hosts
from fcam_jax.runtime.text import first_line
from fcam_jax.training import manifest

logger = logging.getLogger(__name__)

STEP = re.compile("0|[1-9][0-9]{0,17}")  # what the folder of a checkpoint is called
_UNFINISHED = ".orbax-checkpoint-tmp"
_KEPT = 2

# One device writes an array that all have. Cut among them, every array would be one more small program per device.
_TYPES = ocp.type_handlers.create_type_handler_registry(
    (jax.Array, ocp.type_handlers.ArrayHandler(use_replica_parallel=False)),
    (np.ndarray, ocp.type_handlers.NumpyHandler()),
    (int, ocp.type_handlers.ScalarHandler()),
    (float, ocp.type_handlers.ScalarHandler()),
    (np.number, ocp.type_handlers.ScalarHandler()),
)


class CheckpointFolder:
    """The checkpoints of one kind; two are kept, so that the one before the newest still serves when that is damaged.

    Of several processes all call every method, in the same order; the first verifies, writes manifests and moves.

    Raises:
      InputError: from all methods, where this checkpoint, or the one before it, cannot be written.
    """

    def __init__(self, path: pathlib.Path, item: str, writable: bool, owner: manifest.Place):
        """Nothing is read or written yet.

        Args:
          path: the folder, absolute; its name is the kind.
          item: what the trees in it are called.
          writable: whether the run that writes here is this one.
          owner: "run" and "stage" of the checkpoints; those of others do not count.
        """
        self.path, self._item, self._writable, self._owner = path, item, writable, owner
        self._being_saved: tuple[int, dict[str, Any]] = 0, {}
        self._verdicts: dict[int, str] = {}

    def steps(self) -> list[int]:
        """The steps of all checkpoints, sound or not, the newest first."""
        found: list[int] = hosts.of_first(self._steps)
        return found

    def newest(self, below: float | int = float("inf")) -> int | None:
        """The step of the newest sound checkpoint, of those below a step; what is wrong with others is told."""
        found: int | None = hosts.of_first(
            lambda: next((step for step in self._steps() if step < below and not self._problem(step)), None)
        )
        return found

    def is_sound(self, step: int) -> bool:
        """Whether there is a sound checkpoint of a step; what is wrong with it is told."""
        return not self.refusal(step)

    def refusal(self, step: int) -> str:
        """What is wrong with a checkpoint; empty where it is sound."""
        problem: str = hosts.of_first(lambda: self._problem(step))
        return problem

    def facts(self, step: int) -> dict[str, Any]:
        """What is known of a sound checkpoint."""
        try:
            return manifest.facts_of(self.path / str(step))
        except manifest.DamagedError as error:  # damaged or replaced while it was being read
            raise InputError(f"the checkpoint {self.path / str(step)} is damaged: {error}") from error

    def save(self, step: int, tree: dict[str, Any], facts: dict[str, Any]) -> None:
        """Begin to save a checkpoint; nothing is done where there is one of this step."""
        self.wait()
        with self._told("written"):
            if step not in self._manager.all_steps():
                self._being_saved = step, facts
                self._verdicts.pop(step, None)
                args = ocp.args.Composite(**{self._item: ocp.args.PyTreeSave(tree)})
                self._manager.save(step, args=args, force=True)

    def amend(self, step: int, facts: dict[str, Any]) -> None:
        """Replace what is known of a checkpoint, once it is written."""
        self.wait()
        with self._told("written"):
            hosts.of_first(lambda: manifest.amend(self.path / str(step), facts))

    def restore(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        """The tree of a checkpoint, placed on devices as `like` is.

        Raises:
          InputError: it cannot be read, or holds another model's "params" and "rest".
        """
        args = ocp.args.Composite(**{self._item: _placed_as(like)})
        return self._read(step, like, lambda: self._manager.restore(step, args=args)[self._item])

    def restore_part(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        """The same where the tree has more branches than `like`, which are not read."""
        args = _placed_as(like, partial_restore=True)

        def read() -> Any:
            with ocp.PyTreeCheckpointer() as checkpointer:
                return checkpointer.restore(self.path / str(step) / self._item, args=args)

        return self._read(step, like, read)

    def has_only_damage(self) -> bool:
        """Whether there are checkpoints here and none is sound. First host only."""
        steps = self._steps()
        return bool(steps) and all(self._problem(step) for step in steps)

    def tidy(self) -> None:
        """Move what is damaged aside (`<step>.damaged`), remove what a crash has left half written, or half removed:
        what is older than as many sound ones as are kept. First host only.
        """
        for unfinished in self.path.glob(f"*{_UNFINISHED}*"):
            shutil.rmtree(unfinished)
        sound = 0
        for step in self._steps():
            if sound == _KEPT:
                shutil.rmtree(self.path / str(step))
            elif not self._problem(step):
                sound += 1
            else:
                aside = (self.path / f"{step}.damaged{number or ''}" for number in itertools.count())
                (self.path / str(step)).rename(next(path for path in aside if not path.exists()))

    def wait(self) -> None:
        """Wait for what is being written."""
        with self._told("written"):
            if "_manager" in vars(self):
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for what is being written, and let go."""
        with self._told("written"):
            if "_manager" in vars(self):
                self._manager.close()

    @functools.cached_property
    def _manager(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT,
            create=self._writable,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        handlers = {self._item: ocp.PyTreeCheckpointHandler(type_handler_registry=_TYPES)}
        return ocp.CheckpointManager(self.path, options=options, item_handlers=handlers)

    def _seal(self) -> None:
        """Write the manifest; Orbax calls it in its thread when all files are there, before they get their name."""
        step, facts = self._being_saved
        manifest.write(next(self.path.glob(f"{step}{_UNFINISHED}*"), self.path / str(step)), facts, self._place(step))

    def _place(self, step: int) -> manifest.Place:
        return {**self._owner, "kind": self.path.name, "step": step}

    @contextlib.contextmanager
    def _told(self, done: str) -> Iterator[None]:
        """What goes wrong with the files in one line."""
        try:
            yield
        except Exception as error:  # Orbax has no common base
            raise InputError(
                f"checkpoints in {self.path} cannot be {done} ({_reason(error)}); "
                "once that is mended, the same command goes on from the newest one"
            ) from error

    def _steps(self) -> list[int]:
        found = (path.name for path in self.path.glob("*") if path.is_dir())
        return sorted((int(name) for name in found if STEP.fullmatch(name)), reverse=True)

    def _problem(self, step: int) -> str:
        """What is wrong with a checkpoint, found out and told once; empty where it is sound."""
        if step not in self._verdicts:
            folder = self.path / str(step)
            try:
                if not folder.is_dir():
                    raise manifest.DamagedError("it is not there")
                manifest.verify(folder, self._place(step))
                self._verdicts[step] = ""
            except manifest.DamagedError as error:
                logger.warning("the checkpoint %s is left out: %s", folder, error)
                self._verdicts[step] = str(error)
        return self._verdicts[step]

    def _read(self, step: int, like: dict[str, Any], read: Callable[[], Any]) -> Any:
        path = self.path / str(step)
        try:
            _check_same_model(path, self._manager.item_metadata(step)[self._item], like)
            return read()
        except InputError:
            raise
        except Exception as error:  # Orbax has no common base
            raise InputError(f"the checkpoint {path} cannot be read ({_reason(error)})") from error


def _placed_as(like: Any, **how: Any) -> ocp.args.PyTreeRestore:
    """What asks for a tree on the devices of another one or, where that has shapes alone, on the default device."""
    here = jnp.zeros(()).sharding

    def place(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None) or here)

    abstract = jax.tree.map(place, like)
    return ocp.args.PyTreeRestore(
        item=abstract, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract), **how
    )


def _check_same_model(path: pathlib.Path, stored: Any, wanted: Any) -> None:
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


def _reason(error: BaseException) -> str:
    """What the system says is wrong, where it does; else the first line of the error."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    for reason in map(os.strerror, OF_THE_DISK):  # deep in what TensorStore says
        if reason in str(error):
            return reason
    return first_line(error)
