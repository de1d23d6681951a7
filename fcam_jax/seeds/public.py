"""Seeds of any CAM in one call."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Array, Int

from fcam_jax.cams.score_maps import score_map
from fcam_jax.component import defaults_of
from fcam_jax.data.arrays import array_of, bounds_of, keys_of, known, not_folded
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.models.encoder import Grid
from fcam_jax.seeds import sampling
from fcam_jax.seeds.sampling import SeedSettings


def draw_seeds(
    cams: Any,
    key: Any = None,
    settings: SeedSettings | None = None,
    *,
    size: tuple[int, int] | None = None,
    grid: Grid | None = None,
    **changes: Any,
) -> Int[Array, "*b h w"]:
    """Pseudo-labels of a few random pixels of every CAM: C+ above a threshold, C- of lowest activation.

    $$ Y_p = 1 \\text{ for some } p \\in C^+, \\quad 0 \\text{ for some } p \\in C^-, \\quad -1 \\text{ elsewhere} $$

    Args:
      cams: maps in [0, 1], [b, h, w], [b, h, w, 1], or one map [h, w]; any array or list.
      key: a seed, a key, or a key for each image; by default seed 0. An image's draw hangs on its key alone.
      settings: of the draw; without them those of training.
      size: height and width to which the maps are brought before, as training does: normalised, then bilinear.
      grid: where the cells of the maps lie in images of this size, such as `Classifier.grid(-1, size)`; by default they
        are spread evenly.
      **changes: settings by name (`SeedSettings`), such as ``foreground_count=10``.

    Returns:
      1 (foreground), 0 (background) or -1 (unknown) at each pixel, in the shape of the maps without channels. A
      constant map has no seeds.

    Raises:
      InputError: a shape, range, key or setting that does not fit.

    Reference: F-CAM (WACV 2022), Sec. 2, Eq. 1 and 2.
    """
    maps = array_of(cams, "cams")
    maps = maps[..., 0] if maps.ndim == 4 and maps.shape[-1] == 1 else maps
    if maps.ndim not in (2, 3):
        raise InputError(f"cams have the shape {maps.shape}; it must be (images, height, width), or of one map")
    if size is not None and not (np.shape(size) == (2,) and all(isinstance(side, int) and side > 0 for side in size)):
        raise InputError(f"size is {size}; it must be height and width in pixels, such as (224, 224)")
    if grid is not None and size is None:
        raise InputError("grid says where cells lie in a larger image: give its size, too, such as (224, 224)")
    single = maps.ndim == 2
    low, high = bounds_of(maps) if size is None and known(maps) else (0, 1)
    if not 0 <= low <= high <= 1:
        raise InputError(f"cams lie in [{low:g}, {high:g}]; they must lie in [0, 1], or give size=")
    maps = not_folded(maps[None] if single else maps)
    maps = maps if size is None else score_map(maps, size, "fcam", grid)
    unknown = changes.keys() - defaults_of(SeedSettings).keys()
    if unknown:
        raise unknown_name("setting of seeds:", min(unknown), defaults_of(SeedSettings))
    chosen, pixels = dataclasses.replace(settings or SeedSettings(), **changes), maps.shape[1] * maps.shape[2]
    for name in ("foreground_count", "background_count"):
        if getattr(chosen, name) > pixels:
            raise InputError(f"{name} is {getattr(chosen, name)}; a map has {pixels} pixels")
    seeds = sampling.draw_seeds(keys_of(key, len(maps)), maps, chosen)
    return seeds[0] if single else seeds
