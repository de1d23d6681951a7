"""The sampling regions C+ and C- of a CAM and the random pixels drawn from them (F-CAM, Sec. 2, Eq. 1 and 2).

In: the CAM of the true label at the image's size, in [0, 1]. Out: a map of pseudo-labels, drawn afresh at every step.
Everything is batched and stays on the device.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from fcam_jax.errors import InputError
from fcam_jax.seeds.morphology import dilate, erode
from fcam_jax.seeds.otsu import histogram, otsu_threshold

BACKGROUND, FOREGROUND, UNKNOWN = 0, 1, -1


@dataclasses.dataclass(frozen=True)
class SeedSettings:
    """How seeds are drawn.

    Attributes:
      background_fraction: n-, share of the pixels of lowest activation that background is drawn from, in (0, 1].
      foreground_count: foreground pixels drawn from each image.
      background_count: background pixels drawn from each image.
      erosion: odd side in pixels of the square that erodes the foreground region; 1 leaves it as it is.
      dilation: odd side in pixels of the square that each drawn pixel grows to.

    Raises:
      InputError: for a setting outside its range.
    """

    background_fraction: float
    foreground_count: int
    background_count: int
    erosion: int
    dilation: int

    def __post_init__(self):
        if not 0 < self.background_fraction <= 1:
            raise InputError(f"seeds.background_fraction is {self.background_fraction}; it must lie in (0, 1]")
        for name in ("erosion", "dilation"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise InputError(
                    f"seeds.{name} is {getattr(self, name)}; it must be an odd number of pixels, 1 for none"
                )
        for name in ("foreground_count", "background_count"):
            if getattr(self, name) < 0:
                raise InputError(f"seeds.{name} is {getattr(self, name)}; it cannot be negative")


def draw_seeds(keys: Key[Array, " b"], cams: Float[Array, "b h w"], settings: SeedSettings) -> Int[Array, "b h w"]:
    """Pseudo-labels of a few random pixels of every image.

    Args:
      keys: one random key an image, so that an image's draw does not depend on the rest of its batch.
      cams: CAM of the true label in [0, 1], at the image's size. A constant map gives no seeds.
      settings: counts and sizes.

    Returns:
      FOREGROUND, BACKGROUND or UNKNOWN at each pixel. A pixel that both draws reach is UNKNOWN.

    Reference: F-CAM (WACV 2022), Eq. 2; dilation of the drawn pixels from the released program.
    """
    foreground, background = sampling_regions(cams, settings)
    keys_fg, keys_bg = jax.vmap(jax.random.split, out_axes=1)(keys)
    drawn_fg = dilate(_draw(keys_fg, foreground.astype(cams.dtype), settings.foreground_count), settings.dilation)
    drawn_bg = dilate(_draw(keys_bg, background, settings.background_count), settings.dilation)
    return jnp.where(drawn_fg == drawn_bg, UNKNOWN, jnp.where(drawn_fg, FOREGROUND, BACKGROUND))


def dead_seeds(seeds: Int[Array, "b h w"], settings: SeedSettings) -> Float[Array, ""]:
    """The share of images, in percent, without any seed of a kind that is drawn: the loss learns little from them.

    Args:
      seeds: what `draw_seeds` has drawn.
      settings: of the draw.
    """
    kinds = ((FOREGROUND, settings.foreground_count), (BACKGROUND, settings.background_count))
    drawn = [kind for kind, count in kinds if count]
    alive = jnp.stack([(seeds == kind).any((1, 2)) for kind in drawn] or [jnp.ones(len(seeds), bool)])
    return 100 * jnp.mean(~alive.all(axis=0), dtype=jnp.float32)


def sampling_regions(
    cams: Float[Array, "b h w"], settings: SeedSettings
) -> tuple[Bool[Array, "b h w"], Float[Array, "b h w"]]:
    """The regions that seeds are drawn from: C+ as a mask, C- as the probability weight of each pixel.

    On the CAM quantised to 8 bits, C+ holds the pixels above Otsu's threshold, eroded (un-eroded where nothing would
    be left); C- the `background_fraction` of pixels with the lowest activation. Pixels that tie at the last level of
    C- share the places that are left, each with the same fractional weight, so that no side of the image is favoured.

    Args:
      cams: maps in [0, 1].
      settings: erosion and n-.

    Returns:
      C+ and the weights of C- in [0, 1], whose sum is n- times the number of pixels. Both are empty for a constant map.

    Reference: F-CAM (WACV 2022), Eq. 1; threshold limits and erosion from the released program.
    """
    levels = jnp.clip(jnp.floor(cams * 255), 0, 255).astype(jnp.int32)
    counts = histogram(levels)
    varied = (levels.max((1, 2)) > levels.min((1, 2)))[:, None, None]
    threshold = jnp.clip(otsu_threshold(counts), 1, 254)[:, None, None]
    above = (levels > threshold) & varied
    eroded = erode(above, settings.erosion)
    foreground = jnp.where(eroded.any((1, 2), keepdims=True), eroded, above)
    background = jnp.where(varied, _lowest(levels, counts, settings.background_fraction), 0.0)
    return foreground, background


def _lowest(levels: Int[Array, "b h w"], counts: Int[Array, "b 256"], fraction: float) -> Float[Array, "b h w"]:
    """Weight 1 below the level at which the wanted number of pixels is reached, a share of what is left on it."""
    wanted = fraction * levels.shape[1] * levels.shape[2]
    up_to = jnp.cumsum(counts, axis=1).astype(jnp.float32)
    weights = jnp.clip((wanted - (up_to - counts)) / jnp.maximum(counts, 1), 0.0, 1.0)
    return jax.vmap(lambda table, level: table[level])(weights, levels)


def _draw(keys: Key[Array, " b"], weights: Float[Array, "b h w"], count: int) -> Bool[Array, "b h w"]:
    """Draw `count` different pixels with probability proportional to weight (Gumbel top-k); fewer where fewer exist."""
    if count == 0:
        return jnp.zeros_like(weights, dtype=bool)

    def one(key: Key[Array, ""], weight: Float[Array, " n"]) -> Bool[Array, " n"]:
        scores = jnp.log(weight) + jax.random.gumbel(key, weight.shape)
        best, where = jax.lax.top_k(scores, count)
        return jnp.zeros_like(weight, dtype=bool).at[where].set(jnp.isfinite(best))

    flat = weights.reshape(weights.shape[0], -1)
    return jax.vmap(one)(keys, flat).reshape(weights.shape)
