"""LayerCAM: every position of a feature map is weighted by its own positive gradient."""

import jax
from jaxtyping import Array, Float, Int

from fcam_jax.cams.contract import Head, score_gradient


def layercam(features: Float[Array, "b h w c"], head: Head, labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
    """LayerCAM of the top stage.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k \\mathrm{ReLU}(g_k) \\odot A_k\\Big) $$

    Args:
      features: activations A of the top stage.
      head: the classifier's head.
      labels: class of each image.

    Reference: Jiang et al., LayerCAM, IEEE TIP 2021, Eq. 5 to 7.
    """
    gradient = score_gradient(features, head, labels)
    return jax.nn.relu((jax.nn.relu(gradient) * features).sum(axis=-1))
