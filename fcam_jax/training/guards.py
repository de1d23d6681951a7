"""What is watched of a training's figures: losses that are not finite, loss spikes, images without seeds."""

import collections
import logging
import math
import pathlib
import shutil
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fcam_jax.errors import InputError
from fcam_jax.runtime import hosts
from fcam_jax.runtime.files import write_record
from fcam_jax.runtime.text import listed
from fcam_jax.training.checkpoint import Checkpoints
from fcam_jax.training.step import TrainState
from fcam_jax.types import Batch

logger = logging.getLogger(__name__)

# A spike is a step whose loss is above SPIKE times the median of the last MEMORY logged losses, where there are at
# least ENOUGH of them and the median is positive.
SPIKE, MEMORY, ENOUGH = 10.0, 100, 10

# Share of images, in percent, above which missing seeds are worth a warning.
DEAD = 50.0


class NotFiniteError(Exception):
    """The loss or the state is not finite.

    Attributes:
      step: the first step of which that is known.
      what: what is not finite.
      figures: of that step.
      images: positions in the split of the images of that step, as far as they are this host's.
    """

    def __init__(self, step: int, what: str, figures: Mapping[str, float], images: Sequence[int]):
        super().__init__(f"{what} is not finite at step {step}")
        self.step, self.what, self.figures, self.images = step, what, dict(figures), list(images)


class Interval:
    """Figures and images of the steps since the last line of the log; they stay on the devices until asked for.

    Attributes:
      step: the last of these steps.
    """

    def __init__(self, known: Sequence[Mapping[str, float]], step: int):
        """Go on with an interval, of which figures are `known`, up to those of `step`."""
        self._known = [dict(row) for row in known]
        self._waiting: list[tuple[dict[str, jax.Array], Any]] = []
        self._last_images: Any = None
        self.step = step

    def add(self, figures: dict[str, jax.Array], batch: Batch) -> None:
        """Take the figures of the next step, and which images it saw."""
        self._waiting.append((figures, batch.index))
        self.step += 1

    def check(self, state: TrainState) -> list[dict[str, float]]:
        """The figures of each step, once they and the state after the last are known to be finite.

        It waits for the devices. A loss is that of the parameters before its step and says nothing of those after it.

        Raises:
          NotFiniteError: a loss or the state is not.
        """
        first = self.step - len(self._waiting) + 1
        fetched = jax.device_get([figures for figures, _ in self._waiting])
        for step, (figures, (_, images)) in enumerate(zip(fetched, self._waiting, strict=True), first):
            row = {name: float(value) for name, value in figures.items()}
            if not math.isfinite(row["loss"]):
                raise NotFiniteError(step, "the loss", row, _positions(images))
            self._known.append(row)
            self._last_images = images
        self._waiting = []
        if not bool(_all_finite(state)):
            images = [] if self._last_images is None else _positions(self._last_images)
            raise NotFiniteError(self.step, "the state", self._known[-1] if self._known else {}, images)
        return self._known


class Spikes:
    """Counts the steps whose loss is far above what it was."""

    def __init__(self, logged: Iterable[float]):
        """Go on after losses that were logged before."""
        self._losses = collections.deque(logged, MEMORY)

    def count(self, losses: Sequence[float]) -> int:
        """The number of spikes among the losses of an interval, whose mean is then remembered as one logged loss."""
        median = statistics.median(self._losses) if len(self._losses) >= ENOUGH else 0.0
        self._losses.append(sum(losses) / len(losses))
        return sum(loss > SPIKE * median for loss in losses) if median > 0 else 0


class Warnings:
    """Says what is odd about the figures of an epoch, each thing once."""

    def __init__(self, name: str):
        """Begin an epoch; `name` is that of stage and epoch, for people."""
        self._name, self._told = name, set[str]()

    def look_at(self, step: int, values: Mapping[str, float]) -> None:
        """Warn of a line of the metric log."""
        if values["loss_spikes"]:
            text = (
                f"{values['loss_spikes']:.0f} step(s) up to step {step} with a loss above {SPIKE:.0f} times its median"
            )
            self._once("spikes", text)
        if values.get("dead_seeds", 0.0) > DEAD:
            text = f"{values['dead_seeds']:.0f} % of the images have no seeds of one kind, up to step {step}"
            self._once("dead", f"{text}: their CAMs are constant, or the two kinds cover each other")

    def _once(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            logger.warning("%s: %s", self._name, text)


def record_failure(
    folder: pathlib.Path, error: NotFiniteError, state: TrainState, checkpoints: Checkpoints, name: Callable[[int], str]
) -> str:
    """Keep what is needed to look into a failure: `failure.json`, and the newest sound checkpoint, which leads there.

    Args:
      folder: for both; what an earlier failure has left in it is replaced.
      error: the failure.
      state: as it is now; what is not finite in it is listed.
      checkpoints: of the stage.
      name: of an image by its position in the split.

    Returns:
      One line on it, for people.
    """
    names = [_named(name, position) for position in error.images]
    bad = _not_finite(state)
    if hosts.is_first():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    kept = checkpoints.keep(folder)
    facts = {
        "step": error.step,
        "what": error.what,
        "figures": error.figures,
        "images": dict(zip(map(str, error.images), names, strict=True)),
        "not_finite": bad,
        "checkpoint": kept,
    }
    if hosts.is_first():
        write_record(folder / "failure.json", facts)
    return (
        f"{error}, on the images {listed(names, 3)}; lower the learning rate (in a new folder). {folder} has the "
        f"step's figures, the images' names, and the sound state of step {kept}, from which the same steps lead "
        "there again"
    )


def _named(name: Callable[[int], str], position: int) -> str:
    try:
        return name(position)
    except InputError:
        return str(position)


def _positions(index: Any) -> list[int]:
    """The positions of a batch's images, of those on this host's devices."""
    if isinstance(index, jax.Array):
        shards = sorted(index.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return [int(position) for shard in shards for position in np.asarray(shard.data)]
    return [int(position) for position in index]


@jax.jit
def _all_finite(state: Any) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))


def _not_finite(state: TrainState) -> list[str]:
    """Names of the state's arrays that are not finite."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return [
        jax.tree_util.keystr(path)
        for path, leaf in leaves
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not bool(_all_finite(leaf))
    ]
