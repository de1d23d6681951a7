"""What a CAM is given: features of the top stage and a head that scores them; and the gradient most CAMs start from."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@runtime_checkable
class Head(Protocol):
    """The part of a classifier behind the features."""

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        """Class scores before softmax."""
        ...

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        """Map of the given class of each image."""
        ...


def score_gradient(features: Float[Array, "b h w c"], head: Head, labels: Int[Array, " b"]) -> Float[Array, "b h w c"]:
    """Gradient of each image's class score with respect to its features: one backward pass for the whole batch.

    $$ g = \\partial\\, \\mathrm{logit}_y / \\partial A $$
    """

    def total(values: Float[Array, "b h w c"]) -> Float[Array, ""]:
        scores = head(values)
        return jnp.take_along_axis(scores, labels[:, None], axis=1).sum()

    return jax.grad(total)(features)
