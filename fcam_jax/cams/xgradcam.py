"""XGradCAM: features weighted by their gradient, averaged where they are active."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class XGradCAM(ActivationMap):
    """Axiom-based Grad-CAM.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w_k = \\frac{\\sum_p g_{kp} A_{kp}}{\\sum_p A_{kp}}, \\quad 0 \\text{ for a channel that sums to } 0 $$

    Reference: Fu et al., Axiom-based Grad-CAM, BMVC 2020, Eq. 8.
    """

    title: ClassVar[str] = "XGradCAM"

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""
        features = target.features
        mass = features.sum(axis=(1, 2), keepdims=True)
        live = mass != 0
        weights = (target.gradient() * features).sum(axis=(1, 2), keepdims=True) / jnp.where(live, mass, 1.0)
        return jax.nn.relu((jnp.where(live, weights, 0.0) * features).sum(axis=-1))
