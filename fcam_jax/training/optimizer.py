"""Optimisers by name: settings, learning rate by step, and the update; new layers may be faster than others."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fcam_jax.component import Registry, at_least, known, shares

# Learning rates do not fall below this (released program).
SMALLEST_LEARNING_RATE = 1e-7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """What optimisers have in common: a step decay of the learning rate, and a decay of the weights.

    Attributes:
      learning_rate: rate of the first epoch.
      decay_epochs: the rate is multiplied by `decay_rate` after every so many epochs; 0 keeps it constant. Not used by
        optimisers whose rate has a course of its own.
      decay_rate: factor of the step decay.
      weight_decay: of all parameters.

    Raises:
      InputError: a setting is outside its range.
    """

    learning_rate: float = 0.01
    decay_epochs: int = 0
    decay_rate: float = 0.1
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        at_least(self, decay_epochs=0)

    def schedule(self, steps_per_epoch: int, epochs: int = 0) -> optax.Schedule:
        """Learning rate by step: exactly `decay_epochs` epochs at each rate, whatever the training's length, `epochs`.

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(Rates, abc.ABC):
    """A way from gradients to updates; a subclass says their direction."""

    @abc.abstractmethod
    def direction(self) -> tuple[optax.GradientTransformation, ...]:
        """What comes before the learning rate, weight decay included."""

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

        return optax.chain(*self.direction(), optax.scale_by_learning_rate(schedule), optax.stateless(scale))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """SGD with Nesterov momentum; the weight decay is an L2 penalty, added to the gradient before the momentum.

    Attributes:
      momentum: Nesterov momentum.
    """

    momentum: float = 0.9

    def direction(self) -> tuple[optax.GradientTransformation, ...]:
        return optax.add_decayed_weights(self.weight_decay), optax.trace(self.momentum, nesterov=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019); rates of about 1e-4 suit it.

    Attributes:
      beta1: of the mean of gradients.
      beta2: of the mean of their squares.
    """

    beta1: float = 0.9
    beta2: float = 0.999

    def direction(self) -> tuple[optax.GradientTransformation, ...]:
        return optax.scale_by_adam(self.beta1, self.beta2), optax.add_decayed_weights(self.weight_decay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineAdamW(AdamW):
    """AdamW as transformers are trained: the rate rises, then falls along half a cosine; kernels alone decay.

    Of T updates and a warm-up of w, update t (from 0) has the rate

    $$ \\eta_t = \\eta\\, \\frac{t + 1}{w} \\text{ for } t < w, \\qquad
       \\eta_t = \\eta \\Big(f + \\frac{1 - f}2 \\Big(1 + \\cos \\pi \\frac{t - w}{T - w}\\Big)\\Big) $$

    A training that is continued by more epochs goes on along the longer cosine.

    Attributes:
      warmup_epochs: length of the warm-up, which may be a fraction of an epoch; at most all of the training.
      floor: f, what is left of the rate at the end, as a share.

    Raises:
      InputError: a setting is outside its range.

    Reference: Loshchilov and Hutter, SGDR, ICLR 2017, Eq. 5; Touvron et al., DeiT, ICML 2021, Table 9.
    """

    warmup_epochs: float = 1.0
    floor: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, warmup_epochs=0)
        shares(self, "floor")

    def schedule(self, steps_per_epoch: int, epochs: int = 0) -> optax.Schedule:
        """Learning rate by step of a training of so many epochs."""
        total = epochs * steps_per_epoch
        rising = min(round(self.warmup_epochs * steps_per_epoch), total)

        def rate(step: Any) -> Any:
            share = jnp.clip((step - rising) / max(total - rising, 1), 0, 1)
            falling = self.floor + (1 - self.floor) / 2 * (1 + jnp.cos(jnp.pi * share))
            return self.learning_rate * jnp.where(step < rising, (step + 1) / max(rising, 1), falling)

        return rate

    def direction(self) -> tuple[optax.GradientTransformation, ...]:
        """Adam's, and the kernels of layers: no bias, norm, token or position."""

        def kernels(params: Any) -> Any:
            return jax.tree_util.tree_map_with_path(lambda path, _: _names(path)[-1] == "kernel", params)

        adam = optax.scale_by_adam(self.beta1, self.beta2)
        return adam, optax.add_decayed_weights(self.weight_decay, mask=kernels)


OPTIMIZERS: Registry[type[Optimizer]] = Registry("optimizer", {"sgd": SGD, "adamw": AdamW, "adamw_cosine": CosineAdamW})


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerChoice(Rates):
    """The optimiser of a stage.

    Attributes:
      name: of the optimiser.
    """

    name: str = "sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        known(self, name=OPTIMIZERS)

    def chosen(self, own: Mapping[str, Any]) -> Optimizer:
        """The optimiser, given its settings that are not among these."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(Rates)}
        return OPTIMIZERS[self.name](**shared, **own)


def _names(path: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(entry.key for entry in path)
