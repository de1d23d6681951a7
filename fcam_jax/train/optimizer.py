"""SGD as the training protocol has it: Nesterov momentum, weight decay, step decay, faster new layers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

# Learning rates do not fall below this (released program).
SMALLEST_LEARNING_RATE = 1e-7


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Settings of SGD.

    Attributes:
      learning_rate: rate of the first epoch.
      decay_epochs: the rate is multiplied by `decay_rate` after every so many epochs; 0 keeps it constant.
      decay_rate: factor of the step decay.
      momentum: Nesterov momentum.
      weight_decay: L2 penalty on all parameters, added to the gradient before the momentum.
    """

    learning_rate: float
    decay_epochs: int = 0
    decay_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4


def learning_rate_schedule(settings: OptimizerSettings, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate by step: exactly `decay_epochs` epochs at each rate.

    Reference: training protocol of F-CAM's released program (Choe et al.'s decays one epoch earlier).
    """
    if not settings.decay_epochs:
        return optax.constant_schedule(settings.learning_rate)
    return optax.exponential_decay(
        settings.learning_rate,
        transition_steps=settings.decay_epochs * steps_per_epoch,
        decay_rate=settings.decay_rate,
        staircase=True,
        end_value=SMALLEST_LEARNING_RATE,
    )


def sgd(
    settings: OptimizerSettings, schedule: optax.Schedule, factor: Callable[[tuple[Any, ...]], float]
) -> optax.GradientTransformation:
    """SGD with a learning-rate factor for each parameter.

    Args:
      settings: momentum and weight decay.
      schedule: learning rate by step.
      factor: factor on the rate of the parameter at a path of the parameter tree.
    """

    def scale(updates: Any, params: Any) -> Any:
        del params
        return jax.tree_util.tree_map_with_path(lambda path, update: update * factor(_names(path)), updates)

    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.trace(settings.momentum, nesterov=True),
        optax.scale_by_learning_rate(schedule),
        optax.stateless(scale),
    )


def _names(path: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(entry.key for entry in path)
