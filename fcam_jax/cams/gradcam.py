"""GradCAM: features weighted by the mean gradient of the class score."""

import jax
from jaxtyping import Array, Float, Int

from fcam_jax.cams.contract import Head, score_gradient


def gradcam(features: Float[Array, "b h w c"], head: Head, labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
    """Gradient-weighted class activation map.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad w_k = \\frac1Z \\sum_p g_{kp} $$

    Args:
      features: activations A of the top stage.
      head: the classifier's head.
      labels: class of each image.

    Reference: Selvaraju et al., Grad-CAM, ICCV 2017, Eq. 1 and 2.
    """
    weights = score_gradient(features, head, labels).mean(axis=(1, 2), keepdims=True)
    return jax.nn.relu((weights * features).sum(axis=-1))
