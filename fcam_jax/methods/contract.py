"""The contract between a method and the training loop and evaluator; one train step serves all methods.

What a method's `loss` draws comes from the keys below; what it keeps between steps is a variable of the model that
`trainable` leaves out. `same` and `of_all` make that equal on every device.
"""

from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key, Shaped

from fcam_jax.runtime.random import OfStep, stream
from fcam_jax.types import DATA_AXIS, Batch, Localization

Module = TypeVar("Module", bound=nnx.Module)

LAST = "last"  # the selection by which a later model is always better, for what cannot be validated


@runtime_checkable
class Localizer(Protocol):
    """Whatever yields score maps of a model's images."""

    def localize(self, model: Any, batch: Batch) -> Localization:
        """Score maps of the batch's labels and class scores, in inference mode."""


@runtime_checkable
class Method(Localizer, Protocol):
    """What is trained and how it localizes."""

    @property
    def trainable(self) -> Any:
        """Filter of the variables that gradients change; the others are as `loss` leaves them."""

    def loss(
        self, model: Any, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Loss over the global batch, and figures to log. Runs per device inside the mapped step.

        What it sets in variables that are not trained stays; it must be the same on every device.
        """

    def learning_rate_factor(self, path: tuple[Any, ...]) -> float:
        """Factor on the learning rate of the variable at a path of the model."""


def image_keys(rng: Key[Array, ""], batch: Batch) -> Key[Array, " b"]:
    """A key for every image from the key of the step: its draws do not depend on the batch or device it is in."""
    return jax.vmap(lambda index: jax.random.fold_in(rng, index))(batch.index)


def batch_key(rng: Key[Array, ""], batch: Batch) -> Key[Array, ""]:
    """A key for what is drawn once for a batch, or a part of it, from the key of the step: the same on every device."""
    key = stream(rng, OfStep.BATCH)
    return key if batch.part is None else jax.random.fold_in(key, batch.part)


def rate_of_layers(path: tuple[Any, ...], new_layers: tuple[tuple[str, ...], ...], factor: float) -> float:
    """`factor` for a variable whose path starts as one of `new_layers` does, 1 for all others."""
    names = tuple(map(str, path))
    return factor if any(names[: len(new)] == new for new in new_layers) else 1.0


def constant(model: Module) -> Module:
    """A copy of a model as it is now, through which no gradient passes; what training it would change, it forgets."""
    structure, variables = nnx.split(model)
    return nnx.merge(structure, jax.lax.stop_gradient(variables))


def same(value: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """A value that all devices have computed alike, such as a mean of weights, as one that JAX knows to be the same."""
    return jax.lax.psum(jnp.where(jax.lax.axis_index(DATA_AXIS) == 0, value, 0), DATA_AXIS)


def of_all(rows: Shaped[Array, "b ..."]) -> Shaped[Array, "n ..."]:
    """The rows of the global batch, in its order and the same on every device, from those of this one.

    So a memory that takes in rows one after the other does not depend on the number of devices.
    """
    here, count = jax.lax.axis_index(DATA_AXIS), jax.lax.axis_size(DATA_AXIS)
    mine = (jnp.arange(count) == here).reshape(-1, *(1,) * rows.ndim)
    return jax.lax.psum(jnp.where(mine, rows, 0), DATA_AXIS).reshape(-1, *rows.shape[1:])
