"""Dense CRF loss: neighbouring pixels of similar colour should agree. No permutohedral lattice: dense matrix work only.

The right-hand side of the sum over pixel pairs is sampled: one random pixel from each stride x stride cell stands for
its cell. That is an unbiased estimate of the filtered map K S, fresh at each step; stride 1 is the exact sum.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from fcam_jax.remat import kept

# Bound on the pair matrix that is alive at a time, in entries over the whole batch.
PAIRS_AT_A_TIME = 2**24


def dense_crf(
    probs: Float[Array, "b h w k"],
    images: Float[Array, "b h w 3"],
    keys: Key[Array, " b"],
    *,
    sigma_xy: float,
    sigma_rgb: float,
    stride: int,
) -> Float[Array, " b"]:
    """Dense CRF energy of every image.

    $$ R(S, X) = -\\sum_k S_k^\\top K S_k, \\qquad
       K_{ij} = \\exp\\Big(-\\frac{|p_i - p_j|^2}{2\\sigma_{xy}^2} - \\frac{|X_i - X_j|^2}{2\\sigma_{rgb}^2}\\Big) $$

    with K_ii included. The gradient is -2 K S, computed with the same K S as the value; the image is a constant.

    Args:
      probs: softmax maps S in [0, 1].
      images: raw RGB X in [0, 255].
      keys: one random key an image, for the choice of landmarks.
      sigma_xy: width of the kernel in pixels.
      sigma_rgb: width of the kernel in colour levels.
      stride: side of the cells that one landmark each stands for; 1 sums all pairs.

    Returns:
      R, a sum over pairs of pixels: between -(h w)^2 and 0.

    Reference: F-CAM (WACV 2022), Eq. 3, R; Tang et al., On regularized losses for weakly-supervised CNN segmentation.
    Differs from: the released program filters with a permutohedral lattice, whose K S is 0.57 to 0.66 times the sum
    above, so that its weight of 2e-9 corresponds to about 1.2e-9 here.
    """
    features = jax.vmap(lambda image: _features(image, sigma_xy, sigma_rgb))(images.astype(jnp.float32))
    where, weights = landmarks(keys, (images.shape[1], images.shape[2]), stride)
    return _energy(probs.astype(jnp.float32), features, where, weights)


def landmarks(
    keys: Key[Array, " b"], shape: tuple[int, int], stride: int
) -> tuple[Int[Array, "b m"], Float[Array, " m"]]:
    """One random pixel from every stride x stride cell: flat positions per image, and the size of each cell."""
    height, width = shape
    tops, lefts = np.arange(0, height, stride), np.arange(0, width, stride)
    heights, widths = np.minimum(stride, height - tops), np.minimum(stride, width - lefts)
    sides = np.stack(np.broadcast_arrays(heights[:, None], widths[None]), -1).reshape(-1, 2)
    corners = np.stack(np.broadcast_arrays(tops[:, None], lefts[None]), -1).reshape(-1, 2)

    def one(key: Key[Array, ""]) -> Int[Array, " m"]:
        place = corners + jnp.floor(jax.random.uniform(key, sides.shape) * sides).astype(jnp.int32)
        return place[:, 0] * width + place[:, 1]

    return jax.vmap(one)(keys), jnp.asarray(sides.prod(axis=1), jnp.float32)


def _features(image: Float[Array, "h w 3"], sigma_xy: float, sigma_rgb: float) -> Float[Array, "n 5"]:
    """Position and colour in units of the kernel's widths, centred: small values keep the distances' precision."""
    height, width, _ = image.shape
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    place = jnp.stack([rows, columns], axis=-1) / sigma_xy
    features = jnp.concatenate([place, image / sigma_rgb], axis=-1).reshape(height * width, 5)
    return features - features.mean(axis=0)


@jax.custom_vjp
def _energy(
    probs: Float[Array, "b h w k"],
    features: Float[Array, "b n 5"],
    where: Int[Array, "b m"],
    weights: Float[Array, " m"],
) -> Float[Array, " b"]:
    return _energy_forward(probs, features, where, weights)[0]


def _energy_forward(probs, features, where, weights):
    filtered = kept(filter_map(probs, features, where, weights))
    return -(probs * filtered).sum(axis=(1, 2, 3)), filtered


def _energy_backward(filtered, cotangent):
    return -2.0 * filtered * cotangent[:, None, None, None], None, None, None


_energy.defvjp(_energy_forward, _energy_backward)


def filter_map(
    probs: Float[Array, "b h w k"],
    features: Float[Array, "b n 5"],
    where: Int[Array, "b m"],
    weights: Float[Array, " m"],
) -> Float[Array, "b h w k"]:
    """K S by landmarks: (K S)_i ~ sum_j w_j K_ij S_j over the landmarks j, in tiles of bounded memory.

    The exponent is one matrix product of features extended by their squared lengths,
    -|f - g|^2 / 2 = f.g - |f|^2/2 - |g|^2/2, in full fp32: its terms reach some hundreds and cancel.
    """
    flat = probs.reshape(probs.shape[0], -1, probs.shape[-1])
    half = jnp.square(features).sum(-1, keepdims=True) / 2
    ones = jnp.ones_like(half)
    left = jnp.concatenate([features, -half, ones], axis=-1)
    right = jnp.take_along_axis(jnp.concatenate([features, ones, -half], axis=-1), where[..., None], axis=1)
    values = jnp.take_along_axis(flat, where[..., None], axis=1) * weights[:, None]

    def row(features_of_pixel: Float[Array, "b d"]) -> Float[Array, "b k"]:
        exponent = jnp.einsum("bd,bmd->bm", features_of_pixel, right, precision=jax.lax.Precision.HIGHEST)
        return jnp.einsum("bm,bmk->bk", jnp.exp(jnp.minimum(exponent, 0.0)), values)

    tile = max(1, min(flat.shape[1], PAIRS_AT_A_TIME // math.prod(where.shape)))
    filtered = jax.lax.map(row, left.swapaxes(0, 1), batch_size=tile)
    return filtered.swapaxes(0, 1).reshape(probs.shape)
