"""SEM: how much each position is like those where a CAM is highest."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.cams.gradients import OF_ONE_GRADIENT
from fcam_jax.component import above, known, shares

_TINY = 1e-8  # the least length that features are divided by


@dataclasses.dataclass(frozen=True, kw_only=True)
class SEM(ActivationMap):
    """Self-enhancement map: the likeness to the features at a CAM's peaks, which reaches parts that the CAM misses.

    $$ C_p = \\max_{q \\in P} \\frac{A_p \\cdot A_q}{|A_p|\\, |A_q|} $$

    P are the positions where the CAM is highest, at which C is 1: the map's upper end is flat, and a threshold close to
    its maximum says nothing. A CAM that is constant has no peaks, and the map is 0.

    Attributes:
      base: the CAM: "hirescam", which is `cam` of a head that averages and then is linear, "gradcam", "gradcampp",
        "xgradcam", "layercam" or "elementwise".
      share: of all positions that P holds, at least one; by default that of 60 in 28x28.

    Raises:
      InputError: a setting is outside its range.

    Differs from: the released program, which takes 60 positions of maps of any size, and of the first image of a batch
      alone. A are the features of the stage; of InceptionV3 with its layers on top that is what it takes.

    Reference: Zhang et al., Rethinking localization map, 2020; released program.
    """

    title = "SEM"
    base: str = "hirescam"
    share: float = 60 / 784

    def __post_init__(self) -> None:
        known(self, base=OF_ONE_GRADIENT)
        above(self, share=0)
        shares(self, "share")

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        return likeness(target.features, OF_ONE_GRADIENT[self.base]()(target), self.share)


def likeness(features: Float[Array, "b h w c"], maps: Float[Array, "b h w"], share: float) -> Float[Array, "b h w"]:
    """The cosine of every position's features with the most like of those where a map is highest, in [-1, 1]."""
    count, height, width = maps.shape
    peaks = max(round(share * height * width), 1)
    lengths = jnp.linalg.norm(features, axis=-1, keepdims=True)
    rows = (features / jnp.maximum(lengths, _TINY)).reshape(count, height * width, -1)
    _, places = jax.lax.top_k(maps.reshape(count, -1), peaks)
    chosen = jnp.take_along_axis(rows, places[..., None], axis=1)
    like = jnp.einsum("bpc,bqc->bpq", rows, chosen, precision=jax.lax.Precision.HIGHEST).max(axis=-1)
    flat = maps.min(axis=(1, 2), keepdims=True) == maps.max(axis=(1, 2), keepdims=True)
    return jnp.where(flat, 0, like.reshape(maps.shape))
