"""The dense CRF as a term of the loss: neighbouring pixels of similar colour should agree."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from fcam_jax.component import above, at_least, defaults_of, known
from fcam_jax.data.arrays import array_of, bounds_of, keys_of, levels_of, not_folded
from fcam_jax.data.arrays import known as is_known
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.losses.crf_energy import FORMS, crf_energy
from fcam_jax.losses.gaussian_sum import FORMS as KERNELS
from fcam_jax.losses.term import Evidence, LossTerm

# The published weights and widths belong to images of this side.
REFERENCE_SIDE = 224

# What K S is multiplied by. The released program filters with a permutohedral lattice, whose result was measured at
# 0.57 to 0.66 times the exact sum: with it, the published weight 2e-9 has the pull that it had there.
AMPLITUDES = {"exact": 1.0, "released": 0.6}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseCRF(LossTerm):
    """The dense CRF energy R of `crf_energy`, as it would be at 224 x 224 pixels.

    R is a sum over pairs of pixels, so for N pixels it is multiplied by (224^2 / N)^2, and the kernel's width by
    sqrt(N) / 224: a weight (lambda) means the same pull at every resolution.

    Attributes:
      sigma_xy: width of the kernel in pixels of a 224 x 224 image, above 0.
      sigma_rgb: width of the kernel in colour levels of 255, above 0.
      form: "landmarks", or "exact" for the sum over all pairs of pixels.
      stride: a landmark stands for stride x stride pixels.
      scale: the CRF is computed on maps and images of this share of their sides, in (0, 1].
      amplitude: "exact", or "released" for 0.6 of it, for which the published weight 2e-9 was tuned.
      kernel: how its sums are computed: "xla", "pallas", or "auto" as suits the device.

    Raises:
      InputError: for a setting that does not exist or is outside its range.
    """

    default_weight: ClassVar[float] = 1.2e-9  # the released 2e-9 on a filter of 0.6 amplitude
    pictured: ClassVar[bool] = True
    floods: ClassVar[bool] = True

    sigma_xy: float = 100.0
    sigma_rgb: float = 15.0
    form: str = "landmarks"
    stride: int = 4
    scale: float = 1.0
    amplitude: str = "exact"
    kernel: str = "auto"

    def __post_init__(self):
        known(self, form=FORMS, amplitude=AMPLITUDES, kernel=KERNELS)
        above(self, sigma_xy=0, sigma_rgb=0)
        at_least(self, stride=1)
        if not 0 < self.scale <= 1:
            raise InputError(f"scale is {self.scale}; it must lie in (0, 1]")

    def of_images(self, known: Evidence) -> Float[Array, " b"]:
        """The energy of each map on its image before augmentation."""
        return self.energy(known.maps, known.raw, known.keys)

    def energy(
        self, maps: Float[Array, "b h w k"], images: Num[Array, "b h w 3"], keys: Key[Array, " b"]
    ) -> Float[Array, " b"]:
        """Energy of every image. At a smaller scale maps are shrunk bilinearly, images by picking pixels.

        Args:
          maps: softmax maps.
          images: raw RGB in [0, 255].
          keys: one random key an image, for the choice of landmarks.
        """
        batch, height, width, regions = maps.shape
        if self.scale < 1:
            height, width = max(1, round(self.scale * height)), max(1, round(self.scale * width))
            maps = jax.image.resize(maps, (batch, height, width, regions), "bilinear", antialias=False)
            images = jax.image.resize(images, (batch, height, width, 3), "nearest")
        side = math.sqrt(height * width) / REFERENCE_SIDE
        found = crf_energy(
            maps,
            images.astype(jnp.float32),
            keys,
            sigma_xy=self.sigma_xy * side,
            sigma_rgb=self.sigma_rgb,
            form=self.form,
            stride=self.stride,
            kernel=self.kernel,
        )
        return AMPLITUDES[self.amplitude] * found / side**4


def dense_crf(maps: Any, images: Any, keys: Any = None, **settings: Any) -> Float[Array, "*b"]:
    """Dense CRF energy of maps on their images: low where neighbouring pixels of similar colour agree.

    $$ R(S, X) = -\\sum_k S_k^\\top K S_k, \\qquad
       K_{ij} = \\exp\\Big(-\\frac{|p_i - p_j|^2}{2\\sigma_{xy}^2} - \\frac{|X_i - X_j|^2}{2\\sigma_{rgb}^2}\\Big) $$

    at any size as it would be at 224 x 224 pixels: F-CAM's weight for it is 1.2e-9. Differentiable in the maps.

    Args:
      maps: softmax maps S, [b, h, w, k], or foreground maps s in [0, 1], [b, h, w] or [b, h, w, 1], for which S is
        (1 - s, s). Smaller ones than the images are enlarged bilinearly.
      images: RGB X, [b, h, w, 3]: integers in [0, 255], or floats in [0, 255] or [0, 1]. One image and its map may go
        without the batch's axis.
      keys: a seed, a key, or a key for each image, for the choice of landmarks; by default seed 0.
      **settings: of `DenseCRF`, where they differ from its defaults: sigma_xy=100.0 in pixels of a 224 x 224 image,
        sigma_rgb=15.0 levels of 255, form="landmarks" or "exact", and more.

    Returns:
      R of each image, between -224^4 and 0; a scalar for one image.

    Raises:
      InputError: a shape, range, key or setting that does not fit.

    Reference: F-CAM (WACV 2022), Eq. 3, R; Tang et al., On regularized losses for weakly-supervised CNN segmentation.
    """
    unknown = settings.keys() - defaults_of(DenseCRF).keys()
    if unknown:
        raise unknown_name("setting of the dense CRF:", min(unknown), defaults_of(DenseCRF))
    colours, found = levels_of(images), array_of(maps, "maps")
    if found.ndim == colours.ndim and found.shape[-1] == 1:
        found = found[..., 0]
    low, high = bounds_of(found) if is_known(found) else (0, 1)
    if not 0 <= low <= high <= 1 + 1e-5:
        raise InputError(f"maps lie in [{low:g}, {high:g}]; they must lie in [0, 1]")
    found = jnp.asarray(found)
    if found.ndim == colours.ndim - 1:
        found = jnp.stack([1 - found, found], axis=-1)
    single = colours.ndim == 3
    if single:
        colours, found = colours[None], found[None]
    height, width = colours.shape[1:3]
    fit = found.ndim == 4 and len(found) == len(colours) and found.shape[1] <= height and found.shape[2] <= width
    if not fit:
        raise InputError(f"maps have the shape {jnp.shape(maps)} and images {jnp.shape(images)}; they do not fit")
    size = (len(found), height, width, found.shape[-1])
    if found.shape != size:
        found = jax.image.resize(found.astype(jnp.float32), size, "bilinear")
    settings |= {name: value.item() for name, value in settings.items() if getattr(value, "size", 0) == 1}  # hashable
    energy = _energy(DenseCRF(**settings), found, not_folded(colours), keys_of(keys, len(found)))
    return energy[0] if single else energy


_energy = jax.jit(DenseCRF.energy, static_argnums=0)  # its operations one by one take seconds at the first call
