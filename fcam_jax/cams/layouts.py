"""How the activations of a layer lie on the image: functions from what a layer gives to a map [b, h, w, c].

Such a function only moves values, or leaves some out; so its transpose puts a map back into the layer's output.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fcam_jax.component import at_least
from fcam_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class tokens:  # noqa: N801 it is called like a function
    """Tokens [b, prefix + height width, c] to a map, row by row; the first ones, such as the class token, stay out.

    Attributes:
      prefix: number of the tokens before those of the patches: class token and registers.
      height: rows of patches; without it and `width` the patches are a square.
      width: patches in a row.

    Raises:
      InputError: there are not so many tokens.
    """

    prefix: int = 0
    height: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        at_least(self, prefix=0, height=0, width=0)

    def __call__(self, activation: Float[Array, "b ..."]) -> Float[Array, "b h w c"]:
        """The map of the patches."""
        if activation.ndim != 3:
            raise InputError(f"tokens are [b, n, c], and the layer gives {activation.shape}")
        b, n, c = activation.shape
        patches = n - self.prefix
        side = math.isqrt(max(patches, 0))
        height = self.height or (patches // self.width if self.width else side)
        width = self.width or (patches // height if height else side)
        if patches <= 0 or height * width != patches:
            raise InputError(
                f"the layer gives {n} tokens; without {self.prefix} in front, {patches} are no grid of "
                f"{height} x {width}: give tokens(prefix=, height=, width=)"
            )
        return activation[:, self.prefix :].reshape(b, height, width, c)


def channels_first(activation: Float[Array, "b c ..."]) -> Float[Array, "b ... c"]:
    """Maps [b, c, h, w], or volumes [b, c, z, y, x], with the channels last."""
    return jnp.moveaxis(activation, 1, -1)


def visible(images: Any) -> Float[np.ndarray, "b ..."]:
    """Images in [0, 1] to be looked at, whatever their range: each from its minimum to its maximum."""
    values = np.asarray(images, np.float32)
    axes = tuple(range(1, values.ndim))
    low, high = values.min(axis=axes, keepdims=True), values.max(axis=axes, keepdims=True)
    return (values - low) / np.where(high == low, 1, high - low)


def put_back(layout: Any, activation: Array, features: Array) -> Array:
    """The activation with another map: where the layout looks, `features`, and what it leaves out as it is."""
    back = jax.linear_transpose(layout, activation)
    (seen,) = back(jnp.ones_like(features))
    (placed,) = back(features)
    return jnp.where(seen == 0, activation, placed)


def check_layout(layout: Any, activation: jax.ShapeDtypeStruct) -> None:
    """Refuse a function that does more than move the values of a layer of this shape."""
    one = jax.ShapeDtypeStruct((1, *activation.shape[1:]), jnp.float32)
    if math.prod(one.shape) > 2**24:
        return  # float32 cannot number so many values
    numbers = jnp.arange(1, math.prod(one.shape) + 1, dtype=jnp.float32).reshape(one.shape)
    try:
        found = layout(numbers)
        again = layout(put_back(layout, jnp.zeros_like(numbers), found))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"reshape does not take what the layer gives, {activation.shape}: {error}") from error
    values = found.reshape(-1)
    if not (jnp.isin(values, numbers).all() and len(jnp.unique(values)) == len(values) and (again == found).all()):
        raise InputError("reshape must only move the values of a layer; it changes or repeats some")
