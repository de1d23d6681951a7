"""Element-wise Grad-CAM: what every unit adds to the score, the units that lower it left out."""

import dataclasses
from typing import ClassVar

import jax
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElementwiseGradCAM(ActivationMap):
    """Positive products of every unit and its gradient.

    $$ C = \\sum_k \\mathrm{ReLU}(g_k \\odot A_k) $$

    With features that are nowhere negative it is LayerCAM.

    Reference: Pillai and Pirsiavash, Explainable models with consistent interpretations, AAAI 2021.
    """

    title: ClassVar[str] = "Element-wise Grad-CAM"

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""
        return jax.nn.relu(target.gradient() * target.features).sum(axis=-1)
