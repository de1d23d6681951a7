"""IS-CAM: ScoreCAM with the score integrated from no mask to the whole mask."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.channels import masked_scores, softmax_weighted
from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.component import at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class ISCAM(ActivationMap):
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

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""

        def scores(share: Float[Array, ""]) -> Float[Array, "b c"]:
            return masked_scores(target, self.chunk, lambda masks, _: share * masks)

        shares = jnp.arange(1, self.samples + 1, dtype=jnp.float32) / self.samples
        return softmax_weighted(target, jax.lax.map(scores, shares).mean(axis=0))
