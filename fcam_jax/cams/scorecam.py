"""ScoreCAM: features weighted by the score of the image that they leave visible; no gradient takes part."""

from jaxtyping import Array, Float

from fcam_jax.cams.channels import masked_scores, softmax_weighted
from fcam_jax.cams.contract import Target


def scorecam(target: Target, *, chunk: int = 128) -> Float[Array, "b h w"]:
    """Score-weighted class activation map.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w = \\mathrm{softmax}_k\\big(\\mathrm{logit}_y(X \\odot M_k) - \\mathrm{logit}_y(X_b)\\big) $$

    with the masks M_k of `channels.masked_scores`. The baseline X_b is the same for all channels and drops out of the
    softmax. One forward pass for each channel; memory is that of a forward pass of `chunk` images, or of the batch
    where that is larger. A gradient through it keeps all of those passes.

    Args:
      target: what is explained.
      chunk: masked images in the network at a time.

    Differs from: the released F-CAM program, whose weights are the class's probabilities, without a softmax over
      channels, and which weights normalised features and normalises masks before they are enlarged.

    Reference: Wang et al., Score-CAM, CVPR Workshops 2020, algorithm 1.
    """
    return softmax_weighted(target, masked_scores(target, chunk))
