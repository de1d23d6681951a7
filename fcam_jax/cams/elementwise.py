"""Element-wise Grad-CAM: what every unit adds to the score, the units that lower it left out."""

import jax
from jaxtyping import Array, Float

from fcam_jax.cams.contract import Target


def elementwise(target: Target) -> Float[Array, "b h w"]:
    """Positive products of every unit and its gradient.

    $$ C = \\sum_k \\mathrm{ReLU}(g_k \\odot A_k) $$

    With features that are nowhere negative it is LayerCAM.

    Args:
      target: what is explained.

    Reference: Pillai and Pirsiavash, Explainable models with consistent interpretations, AAAI 2021.
    """
    return jax.nn.relu(target.gradient() * target.features).sum(axis=-1)
