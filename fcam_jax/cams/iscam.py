"""IS-CAM: ScoreCAM with the score integrated from no mask to the whole mask."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fcam_jax.cams.channels import ChannelCAM, masked_scores, softmax_weighted
from fcam_jax.cams.contract import Target
from fcam_jax.component import at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class ISCAM(ChannelCAM):
    """Integrated Score-CAM.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w = \\mathrm{softmax}_k \\Big(\\frac1n \\sum_{i=1}^n
       \\mathrm{logit}_y\\big(X \\odot \\tfrac{i}{n} M_k\\big)\\Big) $$

    Memory as `ScoreCAM`'s, at `samples` times its passes.

    Attributes:
      samples: n, steps of the integral.
      chunk: masked images in the network at a time.

    Differs from: the released F-CAM program, as `ScoreCAM`; it adds the steps' masks up, so that the last is 5.5 M_k.

    Reference: Naidu et al., IS-CAM, 2020.
    """

    title: ClassVar[str] = "IS-CAM"
    samples: int = 10
    chunk: int = 128

    def __post_init__(self) -> None:
        at_least(self, samples=1, chunk=1)

    def passes(self, channels: int) -> int:
        """`samples` of them for each feature map."""
        return self.samples * channels

    def scores(self, target: Target, channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        """Mean scores over the steps."""

        def at(share: Float[Array, ""]) -> Float[Array, "b n"]:
            return masked_scores(target, channels, lambda masks, _: share * masks)

        shares = jnp.arange(1, self.samples + 1, dtype=jnp.float32) / self.samples
        return jax.lax.map(at, shares).mean(axis=0)

    def combined(self, target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b h w"]:
        """The map, from the scores of all."""
        return softmax_weighted(target, scores)
