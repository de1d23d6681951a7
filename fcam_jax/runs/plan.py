"""What a run does, as plain objects: an experiment, and the trainings that it consists of."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import optax
from flax import nnx
from jaxtyping import Array, Key

from fcam_jax.configuration.settings import FcamSearch
from fcam_jax.errors import InputError
from fcam_jax.evaluation.settings import EvaluationSettings, ValidationSettings
from fcam_jax.methods.contract import Localizer, Method
from fcam_jax.methods.fcam import Judgement, View
from fcam_jax.methods.soundness import Watch
from fcam_jax.models.import_weights import Imported
from fcam_jax.runs.data import Data, EvaluationBatches
from fcam_jax.runtime.progress import counted
from fcam_jax.training.frozen_cache import FrozenCache
from fcam_jax.training.settings import LoopSettings, TrainSettings
from fcam_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One training.

    Attributes:
      name: its folder.
      row: what the tables call its maps.
      baselines: other ways to localize with its model, by what the tables call them.
      build_model: the model with random weights, from the trained model of the stage before it (None for the first).
      load_pretrained: replaces random weights of its model before its first step; returns a record of where the new
        ones came from, or None.
      check_pretrained: raises where that would, without a model.
      method: what is trained.
      optimizer: makes the update from gradients.
      loop: how long.
      frozen: yields what may be kept of the images, from the model and a batch; None where nothing may.
      view: what training sees of a batch, for pictures; None where there are none.
      watch: what is watched of the epochs' figures.
      pictures_epochs: epochs from one picture to the next; 0 for none.
      search: settings that it finds itself; None for none.
      judge: how good maps are, without boxes.
    """

    name: str
    row: str
    baselines: dict[str, Localizer]
    build_model: Callable[[Any], nnx.Module]
    load_pretrained: Callable[[Any], Imported | None]
    check_pretrained: Callable[[], object] = lambda: None
    method: Method
    optimizer: Callable[[], optax.GradientTransformation]
    loop: LoopSettings
    frozen: Callable[[Any, Batch], Any] | None = None
    view: Callable[[Any, Batch, Key[Array, ""]], View] | None = None
    watch: Watch = dataclasses.field(default_factory=Watch)
    pictures_epochs: int = 0
    search: FcamSearch | None = None
    judge: Callable[[Any, Batch], Judgement] | None = None

    def shapes(self, before: Any) -> Any:
        """As `build_model`, with shapes for values: drawing weights takes seconds. `before` may be shapes, too."""
        return nnx.eval_shape(self.build_model, before)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Stages, data and evaluation of a run.

    Attributes:
      seed: of all randomness but the data set's own.
      stages: in the order in which they build on each other.
      data: what is trained and evaluated on.
      train: how updates are computed.
      frozen: how what stage 2 takes of the frozen classifier is computed once and kept; None where it is not.
      validation: what is measured while training.
      evaluation: what is measured for the results.
      record: facts about the run's inputs that belong into its results.
    """

    seed: int
    stages: tuple[Stage, ...]
    data: Data
    train: TrainSettings
    frozen: FrozenCache | None
    validation: ValidationSettings
    evaluation: EvaluationSettings
    record: dict[str, Any]

    def check_split(self, split: str, use: str = "") -> None:
        """Raise an `InputError` where the data has no such split, for a use such as ``" to evaluate"``."""
        if split not in self.data.sizes:
            raise InputError(f"the data has no split {split!r}{use}; there: {', '.join(self.data.sizes)}")

    def batches(self, split: str, title: str) -> EvaluationBatches:
        """The evaluation batches of a split, counted by a bar."""
        count = math.ceil(self.data.sizes[split] / self.evaluation.batch_size)
        return counted(self.data.evaluated(split), title, count, "batch")
