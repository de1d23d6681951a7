"""The sampling regions C+ and C- of a CAM and the random pixels drawn from them (F-CAM, Sec. 2, Eq. 1 and 2).

In: the CAM of the true label at the image's size, in [0, 1]. Out: a map of pseudo-labels, drawn afresh at every step.
Everything is batched and stays on the device.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from fcam_jax.component import Registry, above, at_least, is_number, known, shares
from fcam_jax.errors import InputError
from fcam_jax.seeds.draws import draw_in_blocks, draw_uniform
from fcam_jax.seeds.fixed import fixed_threshold
from fcam_jax.seeds.li import li_threshold
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
      erosion: side of the square that erodes the foreground region, as a share of the image's; 0 leaves it as it is.
      dilation: side of the square that each drawn pixel grows to, as a share of the image's; 0 leaves the pixel alone.
      threshold: what parts the foreground region from the rest, one of `THRESHOLDS`.
      fixed_threshold: for "fixed", the share of the map's range that the foreground lies above, in (0, 1).
      draw: how pixels of a region are drawn, one of `DRAWS`.
      block_size: for "blocks", side of a block as a share of the image's.

    The published sides are 11, 3 and 32 pixels of 224. The image's side is sqrt(height width).

    Raises:
      InputError: for a setting outside its range, or a name that is not known.
    """

    background_fraction: float = 0.7
    foreground_count: int = 1
    background_count: int = 1
    erosion: float = 0.049
    dilation: float = 0.013
    threshold: str = "otsu"
    fixed_threshold: float = 0.5
    draw: str = "uniform"
    block_size: float = 0.143

    def __post_init__(self):
        known(self, threshold=THRESHOLDS, draw=DRAWS)
        above(self, background_fraction=0)
        shares(self, "background_fraction")
        if not 0 < self.fixed_threshold < 1:
            raise InputError(f"fixed_threshold is {self.fixed_threshold}; it must lie in (0, 1)")
        at_least(self, foreground_count=0, background_count=0)
        for name in ("erosion", "dilation", "block_size"):
            value = getattr(self, name)
            if not (is_number(value) and 0 <= value < 1):
                raise InputError(
                    f"{name} is {value}; it must be a share of the image's side, at least 0 and below 1: "
                    "11 pixels of 224 are 0.049"
                )


# Thresholds of histograms by name: foreground is what lies above. A new one is one function and one line.
THRESHOLDS: Registry[Callable[[Int[Array, "b 256"], SeedSettings], Int[Array, " b"]]] = Registry(
    "threshold of the seeds",
    {
        "otsu": lambda counts, settings: otsu_threshold(counts),
        "li": lambda counts, settings: li_threshold(counts),
        "fixed": lambda counts, settings: fixed_threshold(counts, settings.fixed_threshold),
    },
)

# Draws by name, from keys, weights and count; likewise.
DRAWS: Registry[Callable[[Key[Array, " b"], Float[Array, "b h w"], int, SeedSettings], Bool[Array, "b h w"]]] = (
    Registry(
        "draw of the seeds",
        {
            "uniform": lambda keys, weights, count, settings: draw_uniform(keys, weights, count),
            "blocks": lambda keys, weights, count, settings: draw_in_blocks(
                keys, weights, count, whole_side(settings.block_size, weights)
            ),
        },
    )
)


def odd_side(share: float, maps: Num[Array, "b h w"]) -> int:
    """A share of the maps' side as the nearest odd number of pixels, at least 1."""
    return 2 * int(share * math.sqrt(math.prod(maps.shape[1:])) / 2) + 1


def whole_side(share: float, maps: Num[Array, "b h w"]) -> int:
    """A share of the maps' side as the nearest whole number of pixels, at least 1."""
    return max(1, round(share * math.sqrt(math.prod(maps.shape[1:]))))


def draw_seeds(
    keys: Key[Array, " b"],
    cams: Float[Array, "b h w"],
    settings: SeedSettings,
    background_factor: Float[Array, ""] | float = 1.0,
) -> Int[Array, "b h w"]:
    """Pseudo-labels of a few random pixels of every image.

    Args:
      keys: one random key an image, so that an image's draw does not depend on the rest of its batch.
      cams: CAM of the true label in [0, 1], at the image's size. A constant map gives no seeds.
      settings: counts and sizes.
      background_factor: on n-.

    Returns:
      FOREGROUND, BACKGROUND or UNKNOWN at each pixel. A pixel that both draws reach is UNKNOWN.

    Reference: F-CAM (WACV 2022), Eq. 2; dilation of the drawn pixels from the released program.
    """
    foreground, background = sampling_regions(cams, settings, background_factor)
    keys_fg, keys_bg = jax.vmap(jax.random.split, out_axes=1)(keys)
    draw = DRAWS[settings.draw]
    pixels_fg = draw(keys_fg, foreground.astype(background.dtype), settings.foreground_count, settings)
    pixels_bg = draw(keys_bg, background, settings.background_count, settings)
    side = odd_side(settings.dilation, cams)
    drawn_fg, drawn_bg = dilate(pixels_fg, side), dilate(pixels_bg, side)
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
    cams: Float[Array, "b h w"], settings: SeedSettings, background_factor: Float[Array, ""] | float = 1.0
) -> tuple[Bool[Array, "b h w"], Float[Array, "b h w"]]:
    """The regions that seeds are drawn from: C+ as a mask, C- as the probability weight of each pixel.

    On the CAM quantised to 8 bits, C+ holds the pixels above a threshold, eroded (un-eroded where nothing would be
    left); C- the `background_fraction` of pixels with the lowest activation. Pixels that tie at the last level of
    C- share the places that are left, each with the same fractional weight, so that no side of the image is favoured.

    Args:
      cams: maps in [0, 1].
      settings: threshold, erosion and n-.
      background_factor: on n-.

    Returns:
      C+ and the weights of C- in [0, 1], whose sum is n- times the number of pixels. Both are empty for a constant map.

    Reference: F-CAM (WACV 2022), Eq. 1; threshold limits and erosion from the released program.
    """
    # In float32 whatever the CAM's type: bfloat16 has not the digits for 256 levels.
    levels = jnp.clip(jnp.floor(cams.astype(jnp.float32) * 255), 0, 255).astype(jnp.int32)
    counts = histogram(levels)
    varied = (levels.max((1, 2)) > levels.min((1, 2)))[:, None, None]
    threshold = jnp.clip(THRESHOLDS[settings.threshold](counts, settings), 1, 254)[:, None, None]
    above = (levels > threshold) & varied
    eroded = erode(above, odd_side(settings.erosion, cams))
    foreground = jnp.where(eroded.any((1, 2), keepdims=True), eroded, above)
    lowest = _lowest(levels, counts, settings.background_fraction * background_factor)
    background = jnp.where(varied, lowest, 0.0)
    return foreground, background


def _lowest(levels: Int[Array, "b h w"], counts: Int[Array, "b 256"], fraction: Array | float) -> Float[Array, "b h w"]:
    """Weight 1 below the level at which the wanted number of pixels is reached, a share of what is left on it."""
    wanted = fraction * levels.shape[1] * levels.shape[2]
    up_to = jnp.cumsum(counts, axis=1).astype(jnp.float32)
    weights = jnp.clip((wanted - (up_to - counts)) / jnp.maximum(counts, 1), 0.0, 1.0)
    return jax.vmap(lambda table, level: table[level])(weights, levels)
