"""HiResCAM: every position of a feature map is weighted by its own gradient, of either sign."""

from jaxtyping import Array, Float

from fcam_jax.cams.contract import Target


def hirescam(target: Target) -> Float[Array, "b h w"]:
    """The share of every position in the score, to first order; signed.

    $$ C = \\sum_k g_k \\odot A_k $$

    Where average pooling and a linear layer follow, Z C is CAM and the sum of C the score without its bias.

    Args:
      target: what is explained.

    Differs from: programs that take its ReLU, which the paper does for display.

    Reference: Draelos and Carin, Use HiResCAM instead of Grad-CAM, 2020.
    """
    return (target.gradient() * target.features).sum(axis=-1)
