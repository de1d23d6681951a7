"""ScoreCAM: features weighted by the score of the image that they leave visible; no gradient takes part."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float, Int

from fcam_jax.cams.channels import ChannelCAM, masked_scores, softmax_weighted
from fcam_jax.cams.contract import Target
from fcam_jax.component import at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreCAM(ChannelCAM):
    """Score-weighted class activation map.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w = \\mathrm{softmax}_k\\big(\\mathrm{logit}_y(X \\odot M_k) - \\mathrm{logit}_y(X_b)\\big) $$

    with the masks M_k of `channels.masked_scores`. The baseline X_b is the same for all channels and drops out of the
    softmax. One forward pass for each channel; memory is that of a forward pass of `chunk` images, or of the batch
    where that is larger. A gradient through it keeps all of those passes.

    Attributes:
      chunk: masked images in the network at a time.

    Differs from: the released F-CAM program, whose weights are the class's probabilities, without a softmax over
      channels, and which weights normalised features and normalises masks before they are enlarged.

    Reference: Wang et al., Score-CAM, CVPR Workshops 2020, algorithm 1.
    """

    title: ClassVar[str] = "ScoreCAM"
    chunk: int = 128

    def __post_init__(self) -> None:
        at_least(self, chunk=1)

    def scores(self, target: Target, channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        """Scores of the masked images."""
        return masked_scores(target, channels)

    def combined(self, target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b h w"]:
        """The map, from the scores of all."""
        return softmax_weighted(target, scores)
