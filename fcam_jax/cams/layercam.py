"""LayerCAM: every position of a feature map is weighted by its own positive gradient."""

import jax
from jaxtyping import Array, Float

from fcam_jax.cams.contract import Target


def layercam(target: Target) -> Float[Array, "b h w"]:
    """LayerCAM of one stage; several are fused by `fusion`.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k \\mathrm{ReLU}(g_k) \\odot A_k\\Big) $$

    Args:
      target: what is explained.

    Reference: Jiang et al., LayerCAM, IEEE TIP 2021, Eq. 5 to 7.
    """
    return jax.nn.relu((jax.nn.relu(target.gradient()) * target.features).sum(axis=-1))
