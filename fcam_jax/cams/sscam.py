"""SS-CAM: ScoreCAM with the mean score over noisy masks."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.channels import ChannelCAM, masked_scores, softmax_weighted
from fcam_jax.cams.contract import Target
from fcam_jax.component import at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class SSCAM(ChannelCAM):
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

    def passes(self, channels: int) -> int:
        """`samples` of them for each feature map."""
        return self.samples * channels

    def scores(self, target: Target, channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        """Mean scores over the noise."""

        def of(sample: Int[Array, ""]) -> Float[Array, "b n"]:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, sample))(target.keys)
            return masked_scores(target, channels, functools.partial(_noisy, keys, self.std))

        return jax.lax.map(of, jnp.arange(self.samples)).mean(axis=0)

    def combined(self, target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b h w"]:
        """The map, from the scores of all."""
        return softmax_weighted(target, scores)


def _noisy(
    keys: Key[Array, " b"], std: float, masks: Float[Array, "b n y x"], channels: Int[Array, " n"]
) -> Float[Array, "b n y x"]:
    """Masks with noise of their own; a channel's does not hang on the group it is in."""

    def draw(key: Key[Array, ""], channel: Int[Array, ""]) -> Float[Array, "y x"]:
        return jax.random.normal(jax.random.fold_in(key, channel), masks.shape[2:])

    return masks + std * jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(keys, channels)
