"""Heads: from the features of the top stage to class scores, and to the map of a class where a head has one itself."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int


class WGAP(nnx.Module):
    """Global average pooling and one linear layer.

    $$ \\mathrm{logit}_y = b_y + \\frac1Z \\sum_p \\sum_k W_{ky} A_{kp} $$

    Reference: Zhou et al., Learning deep features for discriminative localization, CVPR 2016, section 2.
    """

    def __init__(self, features: int, num_classes: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.fc = nnx.Linear(
            features,
            num_classes,
            kernel_init=jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
            dtype=dtype,
            preferred_element_type=jnp.float32,  # close scores must not tie at a compute dtype of few bits
            rngs=rngs,
        )

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        """Class scores before softmax, float32.

        Args:
          features: map of the top stage.
        """
        return self.fc(features.mean(axis=(1, 2), dtype=jnp.float32)).astype(jnp.float32)

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        """The class's own share of every position in its score: CAM, signed, without the bias.

        $$ C_p = \\sum_k W_{ky} A_{kp} $$

        Args:
          features: map of the top stage.
          labels: class y of each image.

        Reference: Zhou et al., CVPR 2016, Eq. 2.
        """
        weights = self.fc.kernel[...].T[labels]
        return jnp.einsum("bhwc,bc->bhw", features.astype(jnp.float32), weights, precision=jax.lax.Precision.HIGHEST)
