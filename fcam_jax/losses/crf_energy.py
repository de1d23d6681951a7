"""The dense CRF energy at given widths of its kernel. No permutohedral lattice: dense matrix work only.

Two forms. `exact` sums all pairs of pixels. `landmarks` samples the right-hand side of the sum: the pixels are divided
into strata of near neighbours of similar brightness, and one random pixel stands for each stratum. That is an unbiased
estimate of the filtered map K S, fresh at each step; docs/dense_crf.md has its error.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from fcam_jax.errors import unknown_name
from fcam_jax.losses.gaussian_sum import gaussian_sum
from fcam_jax.runtime.remat import kept

FORMS = ("landmarks", "exact")

# Strata are made within blocks of so many strata to a side: in fewer there are fewer pixels of a brightness to put
# together, in more these lie farther apart (error of K S on birds, in percent: 1: 1.1, 2: .73, 4: .63, 7: .88).
BLOCK = 4


def crf_energy(
    probs: Float[Array, "b h w k"],
    images: Float[Array, "b h w 3"],
    keys: Key[Array, " b"],
    *,
    sigma_xy: float,
    sigma_rgb: float,
    form: str = "landmarks",
    stride: int = 4,
    kernel: str = "auto",
) -> Float[Array, " b"]:
    """Dense CRF energy of every image.

    $$ R(S, X) = -\\sum_k S_k^\\top K S_k, \\qquad
       K_{ij} = \\exp\\Big(-\\frac{|p_i - p_j|^2}{2\\sigma_{xy}^2} - \\frac{|X_i - X_j|^2}{2\\sigma_{rgb}^2}\\Big) $$

    with K_ii included. The gradient is -2 K S, computed with the same K S as the value; the image is a constant.

    Args:
      probs: softmax maps S in [0, 1], of any number of regions.
      images: raw RGB X in [0, 255].
      keys: one random key an image, for the choice of landmarks; `exact` does not use them.
      sigma_xy: width of the kernel in pixels.
      sigma_rgb: width of the kernel in colour levels.
      form: "landmarks", or "exact" for all pairs. Memory is proportional to the number of pixels either way.
      stride: a landmark stands for stride x stride pixels; with 1, landmarks are all pixels.
      kernel: by which the sum is computed, a name of `gaussian_sum.FORMS`.

    Returns:
      R, a sum over pairs of pixels: between -(h w)^2 and 0.

    Raises:
      InputError: there is no such form or kernel.

    Reference: F-CAM (WACV 2022), Eq. 3, R; Tang et al., On regularized losses for weakly-supervised CNN segmentation.
    Differs from: the released program filters with a permutohedral lattice, whose K S is 0.57 to 0.66 times the sum
    above (`losses/dense_crf.py`, amplitude).
    """
    if form not in FORMS:
        raise unknown_name("form of the dense CRF:", form, FORMS)
    images = jax.lax.stop_gradient(images.astype(jnp.float32))
    features = pixel_features(images, sigma_xy, sigma_rgb)
    where = weights = None
    if form == "landmarks":
        where, weights = landmarks(keys, images, stride)
    return _energy(kernel, probs.astype(jnp.float32), features, where, weights)


def landmarks(
    keys: Key[Array, " b"], images: Float[Array, "b h w 3"], stride: int, block: int = BLOCK
) -> tuple[Int[Array, "b m"], Float[Array, " m"]]:
    """One random pixel of every stratum, and the number of pixels that it stands for.

    The image is cut into squares of block * stride pixels a side; the pixels of a square, sorted by brightness, are cut
    into runs of stride^2, the strata. The sum of w f over the landmarks is an unbiased estimate of the sum of f over
    all pixels, the better the less f varies within strata: the kernel varies slowly in space (sigma_xy is 100 pixels)
    and fast in colour.

    Args:
      keys: one random key an image.
      images: RGB.
      stride: root of the number of pixels in a stratum; those at the image's edges may have fewer.
      block: strata to a side of a square; with 1, strata are squares of stride x stride pixels.

    Returns:
      Flat positions of the landmarks, and their weights, which are the same for all images.
    """
    height, width = images.shape[1:3]
    side, size = block * stride, stride * stride
    squares = _squares(np.arange(height * width).reshape(1, height, width), side, -1)[0]
    brightness = jnp.asarray(
        _squares(images.sum(axis=-1), side, jnp.array(jnp.inf))
    )  # beyond the edges: last in every square
    positions = jnp.broadcast_to(jnp.asarray(squares, jnp.int32), brightness.shape)
    _, positions = jax.lax.sort((brightness, positions), dimension=-1, num_keys=1)
    counts = np.clip((squares >= 0).sum(axis=1)[:, None] - size * np.arange(block**2), 0, size).ravel()
    strata = positions.reshape(len(images), -1, size)[:, counts > 0]
    counts = jnp.asarray(counts[counts > 0], jnp.float32)
    random = jax.vmap(lambda key: jax.random.uniform(key, counts.shape))(keys)
    chosen = jnp.floor(random * counts).astype(jnp.int32)
    return jnp.take_along_axis(strata, chosen[..., None], axis=-1)[..., 0], counts


def _squares(
    maps: Num[Array | np.ndarray, "b h w"], side: int, beyond: int | Array
) -> Num[Array | np.ndarray, "b _ _"]:
    """The pixels of each square of side x side, with a value for what lies beyond the edges: [b, squares, side^2]."""
    numpy: Any = np if isinstance(maps, np.ndarray) else jnp  # positions are constants, whose number must be known
    count, height, width = maps.shape
    down, across = -(-height // side), -(-width // side)
    padding = ((0, 0), (0, down * side - height), (0, across * side - width))
    padded = numpy.pad(maps, padding, constant_values=beyond).reshape(count, down, side, across, side)
    return padded.swapaxes(2, 3).reshape(count, down * across, side * side)


def pixel_features(images: Float[Array, "b h w 3"], sigma_xy: float, sigma_rgb: float) -> Float[Array, "b n 5"]:
    """Position and colour of every pixel in units of the kernel's widths, centred: small values keep precision."""
    count, height, width, _ = images.shape
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    place = jnp.broadcast_to(jnp.stack([rows, columns], axis=-1) / sigma_xy, (count, height, width, 2))
    features = jnp.concatenate([place, images / sigma_rgb], axis=-1).reshape(count, height * width, 5)
    return features - features.mean(axis=1, keepdims=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _energy(
    kernel: str,
    probs: Float[Array, "b h w k"],
    features: Float[Array, "b n 5"],
    where: Int[Array, "b m"] | None,
    weights: Float[Array, " m"] | None,
) -> Float[Array, " b"]:
    return _energy_forward(kernel, probs, features, where, weights)[0]


def _energy_forward(kernel, probs, features, where, weights):
    filtered = kept(filter_map(probs, features, where, weights, kernel))
    return -(probs * filtered).sum(axis=(1, 2, 3)), filtered


def _energy_backward(kernel, filtered, cotangent):
    del kernel
    return -2.0 * filtered * cotangent[:, None, None, None], None, None, None


_energy.defvjp(_energy_forward, _energy_backward)


def filter_map(
    probs: Float[Array, "b h w k"],
    features: Float[Array, "b n 5"],
    where: Int[Array, "b m"] | None = None,
    weights: Float[Array, " m"] | None = None,
    kernel: str = "auto",
) -> Float[Array, "b h w k"]:
    """K S by landmarks, (K S)_i ~ sum_j w_j K_ij S_j over the landmarks j, or exact where there are none."""
    flat = probs.reshape(probs.shape[0], -1, probs.shape[-1])
    if where is None or weights is None:
        return gaussian_sum(features, features, flat, form=kernel).reshape(probs.shape)
    centres = jnp.take_along_axis(features, where[..., None], axis=1)
    values = jnp.take_along_axis(flat, where[..., None], axis=1) * weights[:, None]
    return gaussian_sum(features, centres, values, form=kernel).reshape(probs.shape)
