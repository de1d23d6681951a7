"""Li's minimum cross-entropy threshold of a batch of 8-bit maps, inside jit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fcam_jax.seeds.otsu import LEVELS

# Half a level, as scikit-image has it: nearer steps change no pixel, or one level of them.
TOLERANCE = 0.5

# Steps made, the threshold before the last one, and after it.
State = tuple[Int[Array, ""], Float[Array, " b"], Float[Array, " b"]]


def li_threshold(counts: Int[Array, "b 256"]) -> Int[Array, " b"]:
    """Level that parts a histogram into two classes so that their means stand for them with little cross-entropy.

    From the mean of the map, until a step is at most half a level:

    $$ t \\leftarrow \\frac{\\mu_1(t) - \\mu_0(t)}{\\log \\mu_1(t) - \\log \\mu_0(t)} $$

    with class 0 the pixels of level <= t, and levels counted from the lowest of the map. Where only that level is in
    class 0 its mean is 0 and t stays. Both means rise with t, and so does the right-hand side: the steps all go one
    way, and there are fewer of them than levels.

    Args:
      counts: histograms.

    Returns:
      Thresholds in [0, 254]; its level for a map of one level, up to 255. Foreground is level > threshold.

    Reference: Li and Lee, Minimum cross entropy thresholding, 1993; Li and Tam, An iterative algorithm for minimum
    cross entropy thresholding, 1998.
    Differs from: `skimage.filters.threshold_li` computes in double precision and returns t itself. Where t lies within
    some 1e-4 of a whole level, or a step within that of half a level, rounding may go the other way here: by a level.
    """
    low = jnp.argmax(counts > 0, axis=1)
    pixels = jnp.cumsum(counts, axis=1)
    total = jnp.cumsum(counts * (jnp.arange(LEVELS) - low[:, None]), axis=1)

    def moved(t: Float[Array, " b"]) -> Float[Array, " b"]:
        level = (low + jnp.floor(t).astype(low.dtype))[:, None]
        pixels0, total0 = (jnp.take_along_axis(sums, level, axis=1)[:, 0] for sums in (pixels, total))
        mean0 = total0 / pixels0
        mean1 = (total[:, -1] - total0) / jnp.maximum(pixels[:, -1] - pixels0, 1)
        alone = total0 == 0
        apart = jnp.where(alone, 1.0, mean1 - mean0)
        # The quotient of the logarithms' difference by log1p: of neighbouring levels the difference would cancel.
        return jnp.where(alone, t, apart / jnp.log1p(apart / jnp.where(alone, 1.0, mean0)))

    def goes_on(state: State) -> Bool[Array, ""]:
        step, before, now = state
        return (step < LEVELS) & (jnp.abs(now - before) > TOLERANCE).any()

    def advance(state: State) -> State:
        step, before, now = state
        # A map that has come to rest stays, whatever its batch still does.
        return step + 1, now, jnp.where(jnp.abs(now - before) > TOLERANCE, moved(now), now)

    mean = total[:, -1] / pixels[:, -1]
    _, _, threshold = jax.lax.while_loop(goes_on, advance, (jnp.array(0), mean - LEVELS, mean))
    return low + jnp.floor(threshold).astype(low.dtype)
