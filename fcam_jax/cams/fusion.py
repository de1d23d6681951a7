"""One map out of those of several stages: where the object is from coarse ones, its details from fine ones."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import Cam, Target
from fcam_jax.cams.score_maps import resize_bilinear

_GAIN = 2.0  # of the shallow maps' tanh


def fused_cam(target: Target, *, cam: Cam, stages: tuple[int, ...]) -> Float[Array, "b h w"]:
    """The fusion of a CAM's maps of several stages; of a single one, its map as it is.

    Args:
      target: what is explained; its own stage does not count.
      cam: the CAM.
      stages: positions of the stages, from high to low resolution.
    """
    maps = [cam(target.at(stage)) for stage in stages]
    return maps[0] if len(maps) == 1 else fuse(maps)


def fuse(maps: list[Float[Array, "b _ _"]]) -> Float[Array, "b h w"]:
    """Element-wise maximum of maps from fine to coarse, at the size of the finest.

    $$ C_p = \\max_s \\hat C_{sp}, \\qquad \\hat C_s = \\tanh(2\\, C_s / \\max C_s), \\quad
       C_s / \\max C_s \\text{ for the coarsest} $$

    A map that is nowhere positive, or holds a NaN, adds nothing.

    Args:
      maps: one of every stage; the sizes may differ.

    Differs from: programs that also take the tanh of the coarsest map.

    Reference: Jiang et al., LayerCAM, IEEE TIP 2021, on the fusion of layers.
    """
    *shallow, deepest = (_scaled(values) for values in maps)
    scaled = [*(jnp.tanh(_GAIN * values) for values in shallow), deepest]
    size = (maps[0].shape[1], maps[0].shape[2])
    return jnp.stack([resize_bilinear(values, size) for values in scaled]).max(axis=0)


def _scaled(maps: Float[Array, "b h w"]) -> Float[Array, "b h w"]:
    highest = maps.max(axis=(1, 2), keepdims=True)
    positive = highest > 0
    return jnp.where(positive, maps / jnp.where(positive, highest, 1), 0)
