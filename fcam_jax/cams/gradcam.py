"""GradCAM: features weighted by the mean gradient of the class score."""

import dataclasses
from typing import ClassVar

import jax
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradCAM(ActivationMap):
    """Gradient-weighted class activation map.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad w_k = \\frac1Z \\sum_p g_{kp} $$

    Reference: Selvaraju et al., Grad-CAM, ICCV 2017, Eq. 1 and 2.
    """

    title: ClassVar[str] = "GradCAM"

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""
        weights = target.gradient().mean(axis=(1, 2), keepdims=True)
        return jax.nn.relu((weights * target.features).sum(axis=-1))
