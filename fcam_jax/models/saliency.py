"""The head of the few-shot baseline: one map of whatever is an object, of no class."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from fcam_jax.models.heads import GAP, Head


class Saliency(Head):
    """A 1x1 convolution to one map, whose sigmoid is the probability that a position shows the object.

    $$ p = \\sigma(b + \\sum_k w_k A_{kp}) $$

    Reference: Choe et al., CVPR 2020, section 5.2 (few-shot learning baseline).
    """

    def __init__(self, features: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.object = GAP(features, 1, background=False, dtype=dtype, rngs=rngs)

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b 1"]:
        """The mean of the map before the sigmoid, as the score of the only class, "object".

        Args:
          features: map of the top stage.
        """
        return self.object(features)

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        """The map before the sigmoid, float32; the labels do not count."""
        return self.object.activation(features, jnp.zeros_like(labels))
