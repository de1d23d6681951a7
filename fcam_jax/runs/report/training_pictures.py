"""Pictures of what training sees, at the ends of epochs: made on the device, of the same few images each time.

Nothing here changes the training: a function of its own looks at it, on one device of the first process, with keys
that follow from seed and step.
"""

import logging
import pathlib
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Key

from fcam_jax.methods.fcam import View
from fcam_jax.runs.class_names import class_title
from fcam_jax.runs.data import Data
from fcam_jax.runs.plan import Stage
from fcam_jax.runs.report.pictures import save_training_view
from fcam_jax.runtime import hosts
from fcam_jax.runtime.text import first_line
from fcam_jax.training.loop import OnEpoch
from fcam_jax.training.placed import Placed
from fcam_jax.training.step import TrainState, augmented
from fcam_jax.types import Batch

logger = logging.getLogger(__name__)

IMAGES = 6


def training_pictures(
    placed: Placed, stage: Stage, data: Data, seed: int, rng: Key[Array, ""], folder: pathlib.Path
) -> OnEpoch:
    """What saves `epoch_NNNN.png` from the state after so many epochs: before training (0), at the stage's intervals,
    and after the last epoch. A file that is there stays. Of several hosts the first does so.

    A picture that fails is warned of, and the training goes on. Images change and keys follow from `rng` as there.

    Args:
      placed: gives the structure; its variables are not used.
      seed: of the images.
    """
    look, every, loop = stage.view, stage.pictures_epochs, stage.loop
    if look is None or not every or not hosts.is_first():
        return lambda state, epoch: None

    @jax.jit
    def view(params: Any, rest: Any, batch: Batch, rng: Key[Array, ""], step: Array) -> View:
        key = jax.random.fold_in(rng, step)
        if data.augment is not None:
            batch = augmented(batch, data.augment, key)
        return look(nnx.merge(placed.structure, params, rest, copy=True), batch, key)

    def on_epoch(state: TrainState, epoch: int) -> None:
        path = folder / f"epoch_{epoch:04d}.png"
        if (epoch % every and epoch != loop.epochs) or path.exists():
            return
        try:
            batch, annotations = data.sample(min(IMAGES, data.sizes["train"]), seed)
            # The copies of one device: no other device or process takes part.
            params, rest = jax.tree.map(lambda array: array.addressable_data(0), (state.params, state.rest))
            seen = jax.device_get(view(params, rest, batch, rng, np.int32(epoch * loop.steps_per_epoch)))
            names = [class_title(data.class_names, annotation.label) for annotation in annotations]
            save_training_view(folder / "unfinished.png", seen, names, f"epoch {epoch}")
            (folder / "unfinished.png").replace(path)
        except Exception as error:  # whatever it is, the training is worth more than its picture
            logger.warning("%s is not made: %s: %s", path, type(error).__name__, first_line(error))

    return on_epoch
