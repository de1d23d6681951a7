"""Random pixels of a region, inside jit: all pixels alike, or spread over the blocks of a grid."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key


def draw_uniform(keys: Key[Array, " b"], weights: Float[Array, "b h w"], count: int) -> Bool[Array, "b h w"]:
    """Draw `count` different pixels with probability proportional to weight (Gumbel top-k); fewer where fewer exist.

    Args:
      keys: one random key an image.
      weights: of each pixel, 0 outside the region.
      count: pixels of each image.
    """
    if count == 0:
        return jnp.zeros_like(weights, dtype=bool)

    def one(key: Key[Array, ""], weight: Float[Array, " n"]) -> Bool[Array, " n"]:
        scores = jnp.log(weight) + jax.random.gumbel(key, weight.shape)
        best, where = jax.lax.top_k(scores, count)
        return jnp.zeros_like(weight, dtype=bool).at[where].set(jnp.isfinite(best))

    flat = weights.reshape(weights.shape[0], -1)
    return jax.vmap(one)(keys, flat).reshape(weights.shape)


def draw_in_blocks(
    keys: Key[Array, " b"], weights: Float[Array, "b h w"], count: int, block_size: int
) -> Bool[Array, "b h w"]:
    """Draw `count` different pixels from as many different blocks of a grid as there are; fewer where fewer exist.

    The blocks that hold pixels of the region are put into a random order, each place alike for all of them whatever
    their weight. Every block gives one pixel in that order, drawn with probability proportional to weight; when all
    have, they give a second one in the same order, and so on.

    Args:
      keys: one random key an image.
      weights: of each pixel, 0 outside the region.
      count: pixels of each image.
      block_size: side of a block in pixels; the grid starts in the top left corner, and its last blocks may be smaller.
    """
    if count == 0:
        return jnp.zeros_like(weights, dtype=bool)
    places = blocks((weights.shape[1], weights.shape[2]), block_size)

    def one(key: Key[Array, ""], weight: Float[Array, " n"]) -> Bool[Array, " n"]:
        key_pixels, key_blocks = jax.random.split(key)
        inside = weight.at[places].get(mode="fill", fill_value=0.0)
        scores = jnp.log(inside) + jax.random.gumbel(key_pixels, places.shape)
        best, where = jax.lax.top_k(scores, min(count, places.shape[1]))
        order = jax.random.permutation(key_blocks, len(places))
        # Rounds follow each other, with the blocks in their order within each.
        there = jnp.isfinite(best)[order].T
        pixels = jnp.take_along_axis(jnp.asarray(places), where, axis=1)[order].T
        drawn = there & (jnp.cumsum(there).reshape(there.shape) <= count)
        return jnp.zeros_like(weight, dtype=bool).at[jnp.where(drawn, pixels, weight.size)].set(True, mode="drop")

    flat = weights.reshape(weights.shape[0], -1)
    return jax.vmap(one)(keys, flat).reshape(weights.shape)


def blocks(shape: tuple[int, int], size: int) -> Int[np.ndarray, "n _"]:
    """Flat positions of the pixels of every block of size x size; height * width for what is beyond the image."""
    height, width = shape
    numbers = np.arange(height * width).reshape(shape)
    padded = np.pad(numbers, ((0, -height % size), (0, -width % size)), constant_values=height * width)
    rows, columns = padded.shape[0] // size, padded.shape[1] // size
    return padded.reshape(rows, size, columns, size).swapaxes(1, 2).reshape(rows * columns, size * size)
