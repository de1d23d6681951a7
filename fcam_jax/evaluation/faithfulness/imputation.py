"""Noisy linear imputation: pixels that are taken out of an image are filled in from those around them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float, Num

from fcam_jax.data.arrays import keys_of

# Of the residual to the right side. On photographs the root mean square error is then 1e-4 deviations of the image.
_TOLERANCE = 1e-5


def impute(
    images: Num[Array | np.ndarray, "b h w c"],
    kept: Bool[Array | np.ndarray, "b h w"],
    *,
    noise: float = 0.01,
    key: Any = None,
) -> Float[Array, "b h w c"]:
    """Images whose missing pixels are the weighted mean of their eight neighbours, with noise on them.

    $$ x_p = \\frac{\\sum_{q \\in N(p)} w_{pq} x_q}{\\sum_{q \\in N(p)} w_{pq}} + \\epsilon_p, \\qquad
       w_{pq} = \\tfrac16 \\text{ beside, above and below}, \\; \\tfrac1{12} \\text{ at the corners} $$

    for all missing pixels p at once; neighbours beyond the edge of the image do not count. This is a linear system,
    symmetric and positive, which conjugate gradients solve for all images and channels side by side; the noise is added
    to the solution. It can be jitted.

    Args:
      images: in any range.
      kept: True where a pixel stays as it is. An image without such pixels becomes 0, with noise.
      noise: deviation of the noise, in standard deviations of each image.
      key: a seed, a key, or a key for each image; by default seed 0.

    Reference: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022, Sec. 4.
    Differs from: the released program, whose noise is in units of the input, which is normalised there.
    """
    images, kept = jnp.asarray(images, jnp.float32), jnp.asarray(kept)
    unit = images.std(axis=(1, 2, 3), keepdims=True)
    known = kept[..., None]
    # Solved for the distance to the mean, so that the tolerance is one of contrasts, whatever the range.
    count = jnp.maximum(known.sum(axis=(1, 2), keepdims=True), 1)
    mean = jnp.where(known, images, 0).sum(axis=(1, 2), keepdims=True) / count
    solve = jax.vmap(jax.vmap(_filled, (-1, None), -1))
    filled = mean + solve(jnp.where(known, images - mean, 0), kept)
    draw = jax.vmap(lambda one: jax.random.normal(one, images.shape[1:]))
    return jnp.where(known, images, filled + noise * unit * draw(keys_of(key, len(images))))


def _filled(values: Float[Array, "h w"], kept: Bool[Array, "h w"]) -> Float[Array, "h w"]:
    """Values, which are 0 where they are missing, with the missing ones filled in."""
    total = _neighbours(jnp.ones_like(values))

    def laplacian(missing: Float[Array, "h w"]) -> Float[Array, "h w"]:
        return jnp.where(kept, 0, total * missing - _neighbours(missing))

    side = sum(values.shape)
    found, _ = cg(laplacian, jnp.where(kept, 0, _neighbours(values)), tol=_TOLERANCE, maxiter=20 * side)
    return values + found


def _neighbours(values: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Weighted sum of the eight neighbours of each pixel; 0 beyond the edge."""
    height, width = values.shape
    padded = jnp.pad(values, 1)
    columns = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    every = columns[:, :-2] + 2 * columns[:, 1:-1] + columns[:, 2:]
    return (every - 4 * padded[1 : height + 1, 1 : width + 1]) / 12
