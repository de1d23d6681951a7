"""AblationCAM: features weighted by what the score loses without them; no gradient takes part."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fcam_jax.cams.channels import ChannelCAM
from fcam_jax.cams.contract import Target
from fcam_jax.component import at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class AblationCAM(ChannelCAM):
    """Ablation-based class activation map.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w_k = \\frac{\\mathrm{logit}_y(A) - \\mathrm{logit}_y(A \\text{ with } A_k = 0)}{|\\mathrm{logit}_y(A)|} $$

    One pass of the rest of the network for each channel; memory is that of such a pass of `chunk` images, or of the
    batch where that is larger. A gradient through it keeps all of those passes.

    Attributes:
      chunk: ablated feature maps in the rest of the network at a time.

    Differs from: the paper divides by the score itself, which turns the map round where that is negative.

    Reference: Desai and Ramaswamy, Ablation-CAM, WACV 2020.
    """

    title: ClassVar[str] = "Ablation-CAM"
    chunk: int = 128

    def __post_init__(self) -> None:
        at_least(self, chunk=1)

    def scores(self, target: Target, channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        """Scores without the feature maps."""
        features = target.features
        kept = jnp.arange(features.shape[-1]) != channels[:, None]
        ablated = features[:, None] * kept[:, None, None]
        return target.score(ablated.reshape(-1, *features.shape[1:])).reshape(len(features), -1)

    def combined(self, target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b h w"]:
        """The map, from the scores of all."""
        whole = target.score(target.features)[:, None]
        size = jnp.abs(whole)
        weights = (whole - scores) / jnp.where(size == 0, 1, size)
        return jax.nn.relu((weights[:, None, None] * target.features).sum(axis=-1))
