"""Positional embeddings of a grid of patches, resampled to another grid: bicubic, in the three ways of the programs.

Pretrained weights expect the way of the program that they come from; the ways differ by some percent of the values.
"""

import jax
import numpy as np
from jaxtyping import Array, Float

from fcam_jax.errors import InputError
from fcam_jax.models.interpolation import cubic, weights_at
from fcam_jax.models.layers import along_axes

# What is added to the new side for the factor between the grids, by the way; None where the kernel is antialiased.
_ADDED: dict[str, float | None] = {"offset": 0.1, "size": 0.0, "antialias": None}
RESAMPLINGS = tuple(_ADDED)


def resampled(grid: Float[Array, "g g d"], size: tuple[int, int], way: str) -> Float[Array, "h w d"]:
    """The embeddings of `size` patches, rows and columns, from those of a square; unchanged at its own size.

    Along each axis, from g to m values, with source position s and Keys' kernel k of constant a,

    $$ y_i = \\sum_j k(s_i - j)\\, x_j, \\qquad s_i = (i + \\tfrac12)\\, g / (m + o) - \\tfrac12 $$

    - ``"offset"``: o = 0.1, a = -0.75, border values repeated (DINO, DINOv2);
    - ``"size"``: the same with o = 0 (DeiT's fine-tuning);
    - ``"antialias"``: o = 0, a = -0.5, weights cut at the border and renormalised, and a kernel as wide as the
      distance of the new values where these are fewer (timm; DINOv2 with registers).

    Raises:
      InputError: there is no such way.

    Reference: Keys, Cubic convolution interpolation, IEEE TASSP 1981; `interpolate_pos_encoding` of DINO's program.
    """
    if way not in RESAMPLINGS:
        raise InputError(f"resampling is {way!r}; known: {', '.join(RESAMPLINGS)}")
    side = grid.shape[0]
    if size == (side, side):
        return grid
    if (added := _ADDED[way]) is None:
        return jax.image.resize(grid, (*size, grid.shape[-1]), "cubic", antialias=True)
    rows, columns = (
        weights_at((np.arange(target) + 0.5) / ((target + added) / side) - 0.5, side, cubic) for target in size
    )
    return along_axes(grid[None], rows, columns)[0]
