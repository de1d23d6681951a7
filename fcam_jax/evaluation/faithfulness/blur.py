"""A Gaussian blur of images, in separable passes."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def gaussian_blur(images: Float[Array, "b h w c"], side: int, deviation: float) -> Float[Array, "b h w c"]:
    """Images blurred by a kernel of `side` (odd) pixels; beyond its edges an image is reflected."""
    reach = side // 2
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    kernel /= kernel.sum()
    for axis in (1, 2):
        size = images.shape[axis]
        padding = [(reach, reach) if one == axis else (0, 0) for one in range(4)]
        padded = jnp.pad(images, padding, mode="symmetric")
        shifted = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(side))
        images = sum((float(k) * one for k, one in zip(kernel, shifted, strict=True)), start=jnp.zeros(()))
    return images
