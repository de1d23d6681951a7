"""From low-resolution CAMs to score maps of the images' size: the one place where maps are normalised and resized.

Resizing is separable, so it is one small constant matrix per axis. Every cell is put where it lies in the image, by a
`Grid`; without one the cells are spread evenly, and OpenCV and PyTorch agree. Beyond the outer cells these repeat.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fcam_jax.errors import unknown_name
from fcam_jax.models.encoder import Grid
from fcam_jax.models.interpolation import Kernel, cubic, linear, weights_at


def score_map(
    maps: Float[Array, "b ..."], size: tuple[int, ...], convention: str, grid: Grid | None = None
) -> Float[Array, "b ..."]:
    """Score maps in [0, 1] at the size of images [y, x] or volumes [z, y, x], from CAMs of any range at low resolution.

    A map that is constant, or holds a NaN, says nothing about where the object is and becomes 0. A map that holds an
    infinity comes from a broken network and becomes NaN, which the metrics refuse. The convention is "protocol":
    bicubic, then min-max, as the evaluation protocol's program; "fcam": min-max, then bilinear, so that the maximum
    may stay below 1, as the F-CAM program; or "percentile": as "protocol", then `over_percentile`.

    Raises:
      InputError: the convention is unknown.

    Differs from: the protocol's program, which resizes a constant map first and then blows its rounding errors up to
    [0, 1]. Both programs stretch a map over the image, wherever its cells lie; so does this without a grid.

    Reference: Choe et al., CVPR 2020, released program; F-CAM (WACV 2022), released program.
    """
    if convention not in CONVENTIONS:
        raise unknown_name("score map convention", convention, CONVENTIONS)
    space = tuple(range(1, maps.ndim))
    broken = jnp.isinf(maps).any(axis=space, keepdims=True)
    flat = maps.min(axis=space, keepdims=True) == maps.max(axis=space, keepdims=True)
    result = jnp.where(flat, 0, CONVENTIONS[convention](maps, size, grid))
    return jnp.where(broken, jnp.nan, result)


def minmax(maps: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """Each map moved and scaled to [0, 1]; 0 for a map that is constant or holds a NaN; NaN for infinities.

    $$ (M - \\min M) / (\\max M - \\min M) $$
    """
    space = tuple(range(1, maps.ndim))
    low = maps.min(axis=space, keepdims=True)
    high = maps.max(axis=space, keepdims=True)
    span = high - low
    empty = (span == 0) | jnp.isnan(maps).any(axis=space, keepdims=True)
    # The compiler divides by multiplying with a reciprocal, which may miss 1; the 8-bit levels hang on the maximum.
    top = (maps == high) & jnp.isfinite(span)
    scaled = jnp.where(top, 1, jnp.minimum((maps - low) / jnp.where(empty, 1, span), 1))
    return jnp.where(empty, 0, scaled)


def over_percentile(maps: Float[Array, "b ..."], percentile: float = 90.0) -> Float[Array, "b ..."]:
    """Maps in [0, 1] as shares of a percentile of each, so that no box hangs on a few high values.

    $$ \\min(M / P_q(M), 1) $$

    A threshold t is then what t P_q is on the map before. Where P_q is 0, whatever is above 0 becomes 1.

    Differs from: the released program, which takes the percentile of 8-bit levels.

    Reference: Bae et al., Rethinking class activation mapping, ECCV 2020, section 3.3.
    """
    high = jnp.percentile(maps, percentile, axis=tuple(range(1, maps.ndim)), keepdims=True)
    return jnp.where(high == 0, (maps > 0).astype(maps.dtype), jnp.minimum(maps / jnp.where(high == 0, 1, high), 1))


def resize_bilinear(
    maps: Float[Array, "b ..."], size: tuple[int, ...], grid: Grid | None = None
) -> Float[Array, "b ..."]:
    """Bilinear interpolation with half-pixel centres, edges repeated, no smoothing before a reduction."""
    return _resize(maps, size, grid, linear)


def resize_bicubic(
    maps: Float[Array, "b ..."], size: tuple[int, ...], grid: Grid | None = None
) -> Float[Array, "b ..."]:
    """Bicubic interpolation with half-pixel centres, edges repeated, no smoothing before a reduction.

    Differs from: `jax.image.resize`, whose cubic kernel has a = -0.5; here it is OpenCV's a = -0.75.

    Reference: Keys, Cubic convolution interpolation for digital image processing, 1981, Eq. 4.
    """
    return _resize(maps, size, grid, cubic)


def resample(
    maps: Float[Array, "b h w"], size: tuple[int, int], source: Grid | None, target: Grid | None
) -> Float[Array, "b y x"]:
    """Maps on one grid at the cells of another, of `size`: bilinear, with tents as wide as the larger of the cells.

    So a cell that covers several others is their weighted mean. Edges are repeated. None is an even grid.
    """
    cells = maps.shape[1], maps.shape[2]
    (starts, steps), (firsts, strides) = source or _even(cells), target or _even(size)
    matrices = []
    for axis in (0, 1):
        centres = (firsts[axis] + strides[axis] * np.arange(size[axis]) - starts[axis]) / steps[axis]
        centres = np.clip(centres, 0, cells[axis] - 1)
        distances = np.abs(centres[:, None] - np.arange(cells[axis]))
        weights = np.maximum(1 - distances / max(1, strides[axis] / steps[axis]), 0)
        matrices.append(jnp.asarray(weights / weights.sum(axis=1, keepdims=True), maps.dtype))
    return jnp.einsum("yh,bhw,xw->byx", matrices[0], maps, matrices[1], precision=jax.lax.Precision.HIGHEST)


_PRODUCTS = {2: "yh,bhw,xw->byx", 3: "zd,bdhw,yh,xw->bzyx"}  # of images and volumes


def _even(cells: tuple[int, int]) -> Grid:
    """Cells that are spread evenly over the image."""
    height, width = cells
    return Grid((0.5 / height, 0.5 / width), (1 / height, 1 / width))


def _resize(
    maps: Float[Array, "b ..."], size: tuple[int, ...], grid: Grid | None, kernel: Kernel
) -> Float[Array, "b ..."]:
    cells = maps.shape[1:]
    firsts, steps = grid or ([0.5 / count for count in cells], [1 / count for count in cells])
    first_matrix, *others = (
        jnp.asarray(weights_at(((np.arange(target) + 0.5) / target - first) / step, source, kernel), maps.dtype)
        for source, target, first, step in zip(cells, size, firsts, steps, strict=True)
    )
    return jnp.einsum(_PRODUCTS[len(cells)], first_matrix, maps, *others, precision=jax.lax.Precision.HIGHEST)


CONVENTIONS: dict[str, Callable[..., Array]] = {
    "protocol": lambda maps, size, grid: minmax(resize_bicubic(maps, size, grid)),
    "percentile": lambda maps, size, grid: over_percentile(minmax(resize_bicubic(maps, size, grid))),
    # Accelerators round products such that the weights may add up to more than 1.
    "fcam": lambda maps, size, grid: jnp.clip(resize_bilinear(minmax(maps), size, grid), 0, 1),
}


def cropped_maps(
    maps: Float[Array, "b h w"], crop: Float[Array, "b 4"], size: tuple[int, int], grid: Grid | None = None
) -> Float[Array, "b y x"]:
    """Low-resolution CAMs of whole images, seen through the crops that training works on: computed once for all crops.

    It equals enlarging the map to the whole image by `resize_bilinear`, cutting the crop out and mirroring it. A crop
    is its top, left and side as shares of the whole image's side, and 1 where it is mirrored; `size` is in pixels, and
    `grid` that of the map in the whole image.
    """
    top, left, side, mirrored = crop.T
    (first_row, first_column), (row, column) = grid or _even((maps.shape[1], maps.shape[2]))
    columns = _weights(maps.shape[2], size[1], (left - first_column) / column, side / column)
    columns = jnp.where(mirrored[:, None, None] > 0, columns[:, ::-1], columns)
    rows = _weights(maps.shape[1], size[0], (top - first_row) / row, side / row)
    maps = maps.astype(jnp.float32)
    return jnp.einsum("byh,bhw,bxw->byx", rows, maps, columns, precision=jax.lax.Precision.HIGHEST)


def _weights(cells: int, pixels: int, start: Float[Array, " b"], extent: Float[Array, " b"]) -> Float[Array, "b y h"]:
    """Weight of every cell of a map in every pixel of a crop, along one axis.

    The crop begins `start` cells after the first one's centre and spans `extent` of them.
    """
    inside = (jnp.arange(pixels) + 0.5) / pixels
    place = jnp.clip(start[:, None] + extent[:, None] * inside, 0, cells - 1)
    return jnp.maximum(0, 1 - jnp.abs(place[:, :, None] - jnp.arange(cells)))
