"""Sum of Gaussians."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PAIRS_AT_A_TIME = 2**24


def gaussian_sum(
    points: Float[Array, "b n d"], centres: Float[Array, "b m d"], values: Float[Array, "b m k"]
) -> Float[Array, "b n k"]:
    """sum_j exp(-|p_i - c_j|^2 / 2) v_j."""
    half_p = jnp.square(points).sum(-1, keepdims=True) / 2
    half_c = jnp.square(centres).sum(-1, keepdims=True) / 2
    left = jnp.concatenate([points, -half_p, jnp.ones_like(half_p)], axis=-1)
    right = jnp.concatenate([centres, jnp.ones_like(half_c), -half_c], axis=-1)

    def row(point: Float[Array, "b e"]) -> Float[Array, "b k"]:
        exponent = jnp.einsum("bd,bmd->bm", point, right, precision=jax.lax.Precision.HIGHEST)
        return jnp.einsum("bm,bmk->bk", jnp.exp(jnp.minimum(exponent, 0.0)), values)

    tile = max(1, min(points.shape[1], PAIRS_AT_A_TIME // math.prod(centres.shape[:2])))
    return jax.lax.map(row, left.swapaxes(0, 1), batch_size=tile).swapaxes(0, 1)
