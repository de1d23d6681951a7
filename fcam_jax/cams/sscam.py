"""SS-CAM: ScoreCAM with the mean score over noisy masks."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.channels import masked_scores, softmax_weighted
from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.component import at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class SSCAM(ActivationMap):
    """Smoothed Score-CAM, with the noise on the masks.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w = \\mathrm{softmax}_k \\Big(\\frac1n \\sum_{i=1}^n
       \\mathrm{logit}_y\\big(X \\odot (M_k + \\delta_{ki})\\big)\\Big),
       \\qquad \\delta \\sim N(0, \\sigma^2) $$

    Memory as `ScoreCAM`'s, at `samples` times its passes.

    Attributes:
      samples: n, noisy masks for each channel.
      std: sigma; masks are in [0, 1] before.
      chunk: masked images in the network at a time.

    Differs from: the released F-CAM program, as `ScoreCAM`; its noise is that of an image with its colours, the same
      for all channels.

    Reference: Wang et al., SS-CAM, 2020.
    """

    title: ClassVar[str] = "SS-CAM"
    samples: int = 35
    std: float = 2.0
    chunk: int = 128

    def __post_init__(self) -> None:
        at_least(self, samples=1, chunk=1, std=0)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""

        def scores(sample: Int[Array, ""]) -> Float[Array, "b c"]:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, sample))(target.keys)
            return masked_scores(target, self.chunk, functools.partial(_noisy, keys, self.std))

        return softmax_weighted(target, jax.lax.map(scores, jnp.arange(self.samples)).mean(axis=0))


def _noisy(
    keys: Key[Array, " b"], std: float, masks: Float[Array, "b n y x"], channels: Int[Array, " n"]
) -> Float[Array, "b n y x"]:
    """Masks with noise of their own; a channel's does not hang on the group it is in."""

    def draw(key: Key[Array, ""], channel: Int[Array, ""]) -> Float[Array, "y x"]:
        return jax.random.normal(jax.random.fold_in(key, channel), masks.shape[2:])

    return masks + std * jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(keys, channels)
