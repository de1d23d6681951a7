"""Boxes of score maps within a traced program, without OpenCV, of any number of maps at a time."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fcam_jax.evaluation.component_tree import LEVELS


def traced_boxes(maps: Float[Array, "b h w"], threshold: float, of_maximum: bool = True) -> Int[Array, "b 4"]:
    """Box ``x0, y0, x1, y1`` around the contour of largest area above a threshold, as `largest_box` has it.

    The threshold is a share of each map's maximum, or an absolute score. Maps are in [0, 1]; their 8-bit levels are
    computed in float32. Of contours of equal area the one that begins last, from the top, is taken; where nothing is
    foreground the box is ``[0, 0, 0, 0]``.

    The area within a contour that runs through centres of pixels is a sum over squares of 2 x 2 pixels: 1 where the
    region, its holes filled, has all four of them, and 1/2 where it has three.
    """
    levels = jnp.floor(maps * (LEVELS - 1))
    if of_maximum:
        cuts = np.floor(threshold * np.arange(LEVELS)).astype(np.float32)
        top = levels.max(axis=(1, 2), keepdims=True)[..., None]
        cut = jnp.where(top == np.arange(LEVELS, dtype=np.float32), cuts, 0).sum(axis=-1)
    else:
        cut = jnp.asarray(int(threshold * (LEVELS - 1)), jnp.float32)
    return _largest((levels > cut).astype(jnp.float32))


def _largest(mask: Float[Array, "b h w"]) -> Int[Array, "b 4"]:
    count, height, width = mask.shape
    rows, columns = (np.arange(size, dtype=np.float32) for size in (height, width))
    edge = np.ones((height, width), np.float32)
    edge[1:-1, 1:-1] = 0
    filled = 1 - _spread(jnp.asarray(edge) * (1 - mask), 1 - mask, crosswise=True)
    order = np.arange(height * width, 0, -1, dtype=np.float32).reshape(height, width)
    labels = _spread(jnp.asarray(order) * filled, filled)  # each region by its first pixel

    def measure(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        rest, best, box = state
        first = rest.max(axis=(1, 2))
        region = ((rest == first[:, None, None]) & (rest > 0)).astype(jnp.float32)
        pixels = jax.lax.reduce_window(region, 0.0, jax.lax.add, (1, 2, 2), (1, 1, 1), "VALID")
        area = jnp.where(pixels == 4, 1, jnp.where(pixels == 3, 0.5, 0)).sum(axis=(1, 2))
        area = jnp.where(first > 0, area, -1)
        by_row, by_column = region.max(axis=2), region.max(axis=1)
        corners = [
            jnp.where(by_column > 0, columns, width).min(axis=1),
            jnp.where(by_row > 0, rows, height).min(axis=1),
            jnp.minimum(jnp.where(by_column > 0, columns + 1, 0).max(axis=1), width - 1),
            jnp.minimum(jnp.where(by_row > 0, rows + 1, 0).max(axis=1), height - 1),
        ]
        box = jnp.where(((area >= best) & (area >= 0))[:, None], jnp.stack(corners, axis=1), box)
        return rest * (1 - region), jnp.maximum(area, best), box

    start = labels, jnp.full(count, -1, jnp.float32), jnp.zeros((count, 4), jnp.float32)
    return jax.lax.while_loop(lambda state: (state[0] > 0).any(), measure, start)[2].astype(jnp.int32)


def _spread(
    values: Float[Array, "b h w"], mask: Float[Array, "b h w"], crosswise: bool = False
) -> Float[Array, "b h w"]:
    """The largest of the values, from 0 on, among the pixels of a mask of 0 and 1 that are connected with each."""

    def largest(of: Float[Array, "b h w"], window: tuple[int, int]) -> Float[Array, "b h w"]:
        return jax.lax.reduce_window(of, -jnp.inf, jax.lax.max, (1, *window), (1, 1, 1), "SAME")

    def grow(state: tuple[Float[Array, "b h w"], Bool[Array, ""]]) -> tuple[Float[Array, "b h w"], Bool[Array, ""]]:
        now, _ = state
        wider = jnp.maximum(largest(now, (1, 3)), largest(now, (3, 1))) if crosswise else largest(now, (3, 3))
        wider = wider * mask
        return wider, (wider != now).any()

    return jax.lax.while_loop(lambda state: state[1], grow, (values, jnp.array(True)))[0]
