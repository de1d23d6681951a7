"""LayerCAM: every position of a feature map is weighted by its own positive gradient."""

import dataclasses
from typing import ClassVar

import jax
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerCAM(ActivationMap):
    """LayerCAM of one stage; several are fused by `fusion`.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k \\mathrm{ReLU}(g_k) \\odot A_k\\Big) $$

    Reference: Jiang et al., LayerCAM, IEEE TIP 2021, Eq. 5 to 7.
    """

    title: ClassVar[str] = "LayerCAM"

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""
        return jax.nn.relu((jax.nn.relu(target.gradient()) * target.features).sum(axis=-1))
