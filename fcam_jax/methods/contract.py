"""The contract between a method and the training loop and evaluator; one train step serves all methods."""

from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Int, Key

from fcam_jax.errors import InputError
from fcam_jax.types import Batch, Localization

_BATCH = 2**32 - 2  # no image has this index, so no image's draws are repeated


@runtime_checkable
class Method(Protocol):
    """What is trained and how it localizes."""

    @property
    def trainable(self) -> Any:
        """Filter of the variables that training changes; the others stay as they are, BatchNorm statistics excepted."""
        ...

    def loss(
        self, model: Any, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Loss over the global batch, and figures to log. Runs per device inside the mapped step."""
        ...

    def localize(self, model: Any, batch: Batch) -> Localization:
        """Score maps of the batch's labels and class scores, in inference mode."""
        ...

    def learning_rate_factor(self, path: tuple[Any, ...]) -> float:
        """Factor on the learning rate of the variable at a path of the model."""
        ...


def image_keys(rng: Key[Array, ""], batch: Batch) -> Key[Array, " b"]:
    """A key for every image from the key of the step: its draws do not depend on the batch or device it is in."""
    return jax.vmap(lambda index: jax.random.fold_in(rng, index))(batch.index)


def batch_key(rng: Key[Array, ""], batch: Batch) -> Key[Array, ""]:
    """A key for what is drawn once for a batch, or a part of it, from the key of the step: the same on every device."""
    key = jax.random.fold_in(rng, _BATCH)
    return key if batch.part is None else jax.random.fold_in(key, batch.part)


def rate_of_layers(path: tuple[Any, ...], new_layers: tuple[tuple[str, ...], ...], factor: float) -> float:
    """`factor` for a variable whose path starts as one of `new_layers` does, 1 for all others."""
    names = tuple(map(str, path))
    return factor if any(names[: len(new)] == new for new in new_layers) else 1.0


def check_share(key: str, value: float) -> None:
    """Refuse a rate or threshold outside of [0, 1].

    Args:
      key: its key in the configuration, for the message.
      value: what it is set to.

    Raises:
      InputError: it is outside.
    """
    if not 0 <= value <= 1:
        raise InputError(f"{key} is {value}; it must lie in [0, 1]")
