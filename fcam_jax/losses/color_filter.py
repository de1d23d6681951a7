"""The dense CRF's kernel as a filter: what a map says of a pixel becomes what it says of all pixels of its colour."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from fcam_jax.cams.score_maps import minmax
from fcam_jax.component import above, at_least, shares
from fcam_jax.losses.crf_energy import filter_map, landmarks, pixel_features
from fcam_jax.losses.dense_crf import REFERENCE_SIDE

TOP = 0.95  # quantile of a filtered map that becomes 1: rare colours keep their CAM, and would make all others dark


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColorFilter:
    """The CAM that seeds are drawn from, filtered by colour and place.

    Attributes:
      share: of the filtered map in what seeds are drawn from, in [0, 1]; 0: the CAM as it is.
      sigma_xy: width of the kernel in pixels of a 224 x 224 image, above 0.
      sigma_rgb: width of the kernel in colour levels of 255, above 0.
      stride: a landmark stands for stride x stride pixels.

    Raises:
      InputError: for a setting outside its range.
    """

    share: float = 0.0
    sigma_xy: float = 100.0
    sigma_rgb: float = 15.0
    stride: int = 4

    def __post_init__(self) -> None:
        shares(self, "share")
        above(self, sigma_xy=0, sigma_rgb=0)
        at_least(self, stride=1)


def color_filtered(
    maps: Float[Array, "b h w"],
    images: Num[Array, "b h w 3"],
    keys: Key[Array, " b"],
    settings: ColorFilter,
    share: Num[Array, ""] | float,
) -> Float[Array, "b h w"]:
    """A map, and its mean over the pixels of like colour and near place, mixed.

    $$ C'_i = (1 - m) C_i + m \\, \\nu\\Big(\\frac{\\sum_j K_{ij} C_j}{\\sum_j K_{ij}}\\Big) $$

    with the kernel K of the dense CRF and nu, which brings each map to [0, 1], its 95th percentile to 1. A CAM that
    finds a part of an object of one colour covers all of it then, and leaves the surroundings that it covered by its
    coarseness. Where objects have many colours it may lose some of them.

    Args:
      maps: C in [0, 1].
      images: raw RGB in [0, 255], of the maps' size.
      keys: one random key an image, for the choice of landmarks.
      settings: widths of the kernel.
      share: m in [0, 1].

    Returns:
      C' in [0, 1]; a constant map stays one.

    Reference: Tomasi and Manduchi, Bilateral filtering for gray and color images, ICCV 1998; the message of the mean
    field of Kraehenbuehl and Koltun, NeurIPS 2011, normalised.
    """
    images, maps = images.astype(jnp.float32), maps.astype(jnp.float32)
    side = math.sqrt(images.shape[1] * images.shape[2]) / REFERENCE_SIDE
    features = pixel_features(images, settings.sigma_xy * side, settings.sigma_rgb)
    where, weights = landmarks(keys, images, settings.stride)
    sums = filter_map(jnp.stack([maps, jnp.ones_like(maps)], axis=-1), features, where, weights)
    filtered = sums[..., 0] / jnp.maximum(sums[..., 1], 1e-6)
    filtered = minmax(jnp.minimum(filtered, jnp.quantile(filtered, TOP, axis=(1, 2), keepdims=True)))
    varied = (maps.max((1, 2)) > maps.min((1, 2)))[:, None, None]  # of a constant map rounding errors would be left
    return jax.lax.stop_gradient(jnp.where(varied, (1 - share) * maps + share * filtered, maps))
