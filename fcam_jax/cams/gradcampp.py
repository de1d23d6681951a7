"""GradCAM++: features weighted by positive gradients, each position's by a coefficient of its own."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.component import known

VARIANTS = ("paper", "released")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradCAMPP(ActivationMap):
    """GradCAM++ for a score whose exponential is the class's output.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad w_k = \\sum_p \\alpha_{kp}\\, \\mathrm{ReLU}(g_{kp}), $$
    $$ \\alpha_{kp} = \\frac{g_{kp}^2}{2 g_{kp}^2 + g_{kp}^3 \\sum_q A_{kq}} = \\frac{1}{2 + g_{kp} \\sum_q A_{kq}},
       \\quad 0 \\text{ where } g_{kp} = 0 $$

    The second form of alpha has no square or cube that could underflow. The factor exp(score), the same for all
    channels, is left out.

    Attributes:
      variant: "paper", or "released": w_k = sum_p ReLU(g_kp)^3.

    Differs from: the released F-CAM program, whose division by alpha's denominator is lost, so that alpha = g^2;
      F-CAM's published GradCAM++ seeds are of that. Programs that sum A g^3 over positions in the denominator.

    Reference: Chattopadhay et al., Grad-CAM++, WACV 2018, Eq. 19 for alpha.
    """

    title: ClassVar[str] = "GradCAM++"
    variant: str = "paper"

    def __post_init__(self) -> None:
        known(self, variant=VARIANTS)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""
        gradient, features = target.gradient(), target.features
        positive = jax.nn.relu(gradient)
        if self.variant == "released":
            shares = positive**3
        else:
            denominator = 2 + gradient * features.sum(axis=(1, 2), keepdims=True)
            shares = positive / jnp.where(denominator == 0, jnp.inf, denominator)
        return jax.nn.relu((shares.sum(axis=(1, 2), keepdims=True) * features).sum(axis=-1))
