"""XGradCAM: GradCAM with weights that keep the sum of the maps equal to the class score's change."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fcam_jax.cams.contract import Head, score_gradient


def xgradcam(features: Float[Array, "b h w c"], head: Head, labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
    """Axiom-based GradCAM.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w_k = \\frac{\\sum_p g_{kp} A_{kp}}{\\sum_p A_{kp}}, \\quad 0 \\text{ for a channel that sums to } 0 $$

    Args:
      features: activations A of the top stage.
      head: the classifier's head.
      labels: class of each image.

    Reference: Fu et al., Axiom-based Grad-CAM, BMVC 2020, Eq. 8.
    """
    gradient = score_gradient(features, head, labels)
    mass = features.sum(axis=(1, 2), keepdims=True)
    live = mass != 0
    weights = (gradient * features).sum(axis=(1, 2), keepdims=True) / jnp.where(live, mass, 1.0)
    return jax.nn.relu((jnp.where(live, weights, 0.0) * features).sum(axis=-1))
