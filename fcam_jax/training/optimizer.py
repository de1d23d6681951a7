"""Optimisers by name: settings, learning rate by step, and the update; new layers may be faster than others."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from fcam_jax.component import Registry, at_least

# Learning rates do not fall below this (released program).
SMALLEST_LEARNING_RATE = 1e-7


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD:
    """SGD with Nesterov momentum and a step decay of the learning rate.

    Attributes:
      learning_rate: rate of the first epoch.
      decay_epochs: the rate is multiplied by `decay_rate` after every so many epochs; 0 keeps it constant.
      decay_rate: factor of the step decay.
      momentum: Nesterov momentum.
      weight_decay: L2 penalty on all parameters, added to the gradient before the momentum.

    Raises:
      InputError: a setting is outside its range.
    """

    learning_rate: float = 0.01
    decay_epochs: int = 0
    decay_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        at_least(self, decay_epochs=0)

    def schedule(self, steps_per_epoch: int) -> optax.Schedule:
        """Learning rate by step: exactly `decay_epochs` epochs at each rate.

        Reference: training protocol of F-CAM's released program (Choe et al.'s decays one epoch earlier).
        """
        if not self.decay_epochs:
            return optax.constant_schedule(self.learning_rate)
        return optax.exponential_decay(
            self.learning_rate,
            transition_steps=self.decay_epochs * steps_per_epoch,
            decay_rate=self.decay_rate,
            staircase=True,
            end_value=SMALLEST_LEARNING_RATE,
        )

    def update(
        self, schedule: optax.Schedule, factor: Callable[[tuple[Any, ...]], float]
    ) -> optax.GradientTransformation:
        """The update from gradients.

        Args:
          schedule: learning rate by step.
          factor: factor on the rate of the parameter at a path of the parameter tree.
        """

        def scale(updates: Any, params: Any) -> Any:
            del params
            return jax.tree_util.tree_map_with_path(lambda path, update: update * factor(_names(path)), updates)

        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.trace(self.momentum, nesterov=True),
            optax.scale_by_learning_rate(schedule),
            optax.stateless(scale),
        )


OPTIMIZERS = Registry("optimizer", {"sgd": SGD})


def _names(path: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(entry.key for entry in path)
