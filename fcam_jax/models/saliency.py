"""The head of the few-shot baseline: one map of whatever is an object, of no class."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from fcam_jax.models.heads import GAP


class Saliency(GAP):
    """A 1x1 convolution to one map, whose sigmoid is the probability that a position shows the object.

    $$ p = \\sigma(b + \\sum_k w_k A_{kp}) $$

    Its score is the mean of the map before the sigmoid, that of the only class, "object".

    Args:
      features: channels of the top stage.
      dtype: compute dtype; map and score are float32 always.
      rngs: source of the initial weights.

    Reference: Choe et al., CVPR 2020, the few-shot learning baseline.
    """

    def __init__(self, features: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        super().__init__(features, 1, background=False, dtype=dtype, rngs=rngs)

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        """The map before the sigmoid, float32.

        Args:
          features: map of the top stage.
          labels: they do not count.
        """
        return super().activation(features, jnp.zeros_like(labels))
