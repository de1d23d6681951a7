"""Erosion and dilation of a batch of binary maps by a square, inside jit.

What lies outside the image never changes a result: it counts as foreground for erosion and as background for
dilation, as in scikit-image.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool


def erode(masks: Bool[Array, "b h w"], size: int) -> Bool[Array, "b h w"]:
    """Keep a pixel where the whole size x size square around it is foreground. `size` is odd; 1 changes nothing."""
    return ~dilate(~masks, size)


def dilate(masks: Bool[Array, "b h w"], size: int) -> Bool[Array, "b h w"]:
    """Set a pixel where any pixel of the size x size square around it is set. `size` is odd; 1 changes nothing."""
    for window in ((1, size, 1), (1, 1, size)):
        masks = jax.lax.reduce_window(masks, jnp.array(False), jax.lax.bitwise_or, window, (1, 1, 1), "SAME")
    return masks
