"""HiResCAM: every position of a feature map is weighted by its own gradient, of either sign."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiResCAM(ActivationMap):
    """The share of every position in the score, to first order; signed.

    $$ C = \\sum_k g_k \\odot A_k $$

    Where average pooling and a linear layer follow, Z C is CAM and the sum of C the score without its bias.

    Differs from: programs that take its ReLU, which the paper does for display.

    Reference: Draelos and Carin, Use HiResCAM instead of Grad-CAM, 2020.
    """

    title: ClassVar[str] = "HiResCAM"

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""
        return (target.gradient() * target.features).sum(axis=-1)
