"""How well a map parts the colours of its image, from the map and the image alone."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from fcam_jax.losses.crf_energy import filter_map, landmarks, pixel_features
from fcam_jax.losses.dense_crf import REFERENCE_SIDE


def normalized_cut(
    foreground: Float[Array, "b h w"],
    images: Num[Array, "b h w 3"],
    keys: Key[Array, " b"],
    *,
    sigma_xy: float = 100.0,
    sigma_rgb: float = 15.0,
    stride: int = 4,
) -> Float[Array, " b"]:
    """Normalised cut of a soft foreground s: what is cut, as a share of what either side is connected to.

    $$ \\frac{s^\\top K (1 - s)}{s^\\top K 1} + \\frac{s^\\top K (1 - s)}{(1 - s)^\\top K 1} $$

    with the kernel K of the dense CRF. 0 where no pixel of one side is like one of the other; 1 for a constant map,
    whatever its value, so that neither a flood nor a collapse is rewarded.

    Args:
      foreground: s in [0, 1].
      images: raw RGB in [0, 255], of the map's size.
      keys: one random key an image, for the choice of landmarks.
      sigma_xy: width of the kernel in pixels of a 224 x 224 image.
      sigma_rgb: width of the kernel in colour levels of 255.
      stride: a landmark stands for stride x stride pixels.

    Reference: Shi and Malik, Normalized cuts and image segmentation, PAMI 2000.
    """
    images = images.astype(jnp.float32)
    side = math.sqrt(images.shape[1] * images.shape[2]) / REFERENCE_SIDE
    features = pixel_features(images, sigma_xy * side, sigma_rgb)
    where, weights = landmarks(keys, images, stride)
    sides = jnp.stack([1 - foreground, foreground], axis=-1).astype(jnp.float32)
    links = filter_map(sides, features, where, weights)
    cut = (sides[..., 1] * links[..., 0]).sum((1, 2))
    whole = (sides * links.sum(axis=-1, keepdims=True)).sum((1, 2))
    return (cut[:, None] / jnp.maximum(whole, 1e-6)).sum(axis=-1)
