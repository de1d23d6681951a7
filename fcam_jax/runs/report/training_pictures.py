"""Pictures of what training sees, at the ends of epochs: made on the device, of the same few images each time.

Nothing here changes the training: a function of its own looks at it, on one device of the first process, with keys
that follow from seed and step.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Key

from fcam_jax.data.augment import Augment
from fcam_jax.methods.fcam import View
from fcam_jax.runs.class_names import ClassNames, class_title
from fcam_jax.runs.report.pictures import save_training_view
from fcam_jax.runtime.text import first_line
from fcam_jax.training.placed import Placed
from fcam_jax.training.step import TrainState, augmented
from fcam_jax.types import Annotation, Batch

logger = logging.getLogger(__name__)

PICTURES = "pictures"  # in the stage's folder
IMAGES = 6

ViewOf = Callable[[Any, Batch, Key[Array, ""]], View]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When pictures are made."""

    every: int  # epochs from one to the next, from epoch 0, before training, on; there is one after the last epoch, too
    epochs: int  # length of the training
    steps_per_epoch: int  # turns an epoch into the step whose random keys are used

    def has(self, epoch: int) -> bool:
        """Whether there is a picture after so many epochs."""
        return epoch % self.every == 0 or epoch == self.epochs


def training_pictures(
    placed: Placed,
    view_of: ViewOf,
    sample: Callable[[], tuple[Batch, list[Annotation]]],
    augment: Augment | None,
    rng: Key[Array, ""],
    folder: pathlib.Path,
    schedule: Schedule,
    class_names: ClassNames | None = None,
) -> Callable[[TrainState, int], None]:
    """What saves `epoch_NNNN.png` from the state after so many epochs, unless the file is there.

    A picture that fails is warned of, and the training goes on. Images change and keys follow from `rng` as there.

    Args:
      placed: gives the structure; its variables are not used.
      view_of: what is to be seen of a model and a batch at the step of a key.
    """

    @jax.jit
    def view(params: Any, rest: Any, batch: Batch, rng: Key[Array, ""], step: Array) -> View:
        key = jax.random.fold_in(rng, step)
        if augment is not None:
            batch = augmented(batch, augment, key)
        return view_of(nnx.merge(placed.structure, params, rest, copy=True), batch, key)

    def on_epoch(state: TrainState, epoch: int) -> None:
        path = folder / f"epoch_{epoch:04d}.png"
        if not schedule.has(epoch) or path.exists():
            return
        try:
            batch, annotations = sample()
            # The copies of one device: no other device or process takes part.
            params, rest = jax.tree.map(lambda array: array.addressable_data(0), (state.params, state.rest))
            seen = jax.device_get(view(params, rest, batch, rng, np.int32(epoch * schedule.steps_per_epoch)))
            names = [class_title(class_names, annotation.label) for annotation in annotations]
            save_training_view(folder / "unfinished.png", seen, names, f"epoch {epoch}")
            (folder / "unfinished.png").replace(path)
        except Exception as error:  # whatever it is, the training is worth more than its picture
            logger.warning("%s is not made: %s: %s", path, type(error).__name__, first_line(error))

    return on_epoch
