"""IS-CAM: ScoreCAM with the score integrated from no mask to the whole mask."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.channels import masked_scores, softmax_weighted
from fcam_jax.cams.contract import Target


def iscam(target: Target, *, samples: int = 10, chunk: int = 128) -> Float[Array, "b h w"]:
    """Integrated Score-CAM.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w = \\mathrm{softmax}_k \\Big(\\frac1n \\sum_{i=1}^n
       \\mathrm{logit}_y\\big(X \\odot \\tfrac{i}{n} M_k\\big)\\Big) $$

    Memory as `scorecam`'s, at `samples` times its passes.

    Args:
      target: what is explained.
      samples: n, steps of the integral.
      chunk: masked images in the network at a time.

    Differs from: the released F-CAM program, as `scorecam`; it adds the steps' masks up, so that the last is 5.5 M_k.

    Reference: Naidu et al., IS-CAM, 2020.
    """

    def scores(share: Float[Array, ""]) -> Float[Array, "b c"]:
        return masked_scores(target, chunk, lambda masks, _: share * masks)

    shares = jnp.arange(1, samples + 1, dtype=jnp.float32) / samples
    return softmax_weighted(target, jax.lax.map(scores, shares).mean(axis=0))
