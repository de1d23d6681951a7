"""A CAM of a whole image, seen through the crop of it that training works on.

So a CAM that is slow to compute needs to be computed once, and not for every crop.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def cropped_maps(
    maps: Float[Array, "b h w"], crop: Float[Array, "b 4"], size: tuple[int, int]
) -> Float[Array, "b y x"]:
    """Bilinear interpolation of low-resolution maps at the pixels of crops, as `score_maps.resize_bilinear` does it.

    It equals enlarging the map to the whole image, cutting the crop out and mirroring it.

    Args:
      maps: of the whole images.
      crop: top, left and side of each crop as shares of the whole image's side, and 1 where it is mirrored.
      size: height and width of the crops in pixels.
    """
    top, left, side, mirrored = crop.T
    columns = _weights(maps.shape[2], size[1], left, side)
    columns = jnp.where(mirrored[:, None, None] > 0, columns[:, ::-1], columns)
    rows = _weights(maps.shape[1], size[0], top, side)
    maps = maps.astype(jnp.float32)
    return jnp.einsum("byh,bhw,bxw->byx", rows, maps, columns, precision=jax.lax.Precision.HIGHEST)


def _weights(cells: int, pixels: int, start: Float[Array, " b"], share: Float[Array, " b"]) -> Float[Array, "b y h"]:
    """Weight of every cell of a map in every pixel, along one axis; beyond the outer cells' centres those repeat."""
    inside = (jnp.arange(pixels) + 0.5) / pixels
    place = (start[:, None] + share[:, None] * inside) * cells - 0.5
    place = jnp.clip(place, 0, cells - 1)
    return jnp.maximum(0, 1 - jnp.abs(place[:, :, None] - jnp.arange(cells)))
