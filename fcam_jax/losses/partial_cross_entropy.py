"""Cross-entropy over the few pixels that carry a pseudo-label (F-CAM, Eq. 3, first term)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fcam_jax.losses.term import Evidence, LossTerm


def partial_cross_entropy(
    logits: Float[Array, "b h w k"], seeds: Int[Array, "b h w"], axis_name: str | None = None
) -> Float[Array, ""]:
    """Mean cross-entropy of the seeded pixels of the batch; 0 where there are none.

    $$ H = -\\frac{1}{|\\Omega'|} \\sum_{p \\in \\Omega'} \\log S_p^{Y_p} $$

    Args:
      logits: scores of the regions before softmax.
      seeds: region of each seeded pixel, negative where it is unknown.
      axis_name: mesh axis over which the batch is spread; the mean is taken over the whole of it.

    Reference: F-CAM (WACV 2022), Eq. 3.
    Differs from: the paper writes a sum; the released program takes the mean over seeded pixels, as done here.
    """
    seeded = seeds >= 0
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    picked = jnp.take_along_axis(log_probs, jnp.maximum(seeds, 0)[..., None], axis=-1)[..., 0]
    total = -jnp.where(seeded, picked, 0.0).sum()
    count = seeded.sum().astype(jnp.float32)
    if axis_name is not None:
        total, count = jax.lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seeds(LossTerm):
    """Partial cross-entropy of the seeded pixels of the whole batch (alpha)."""

    default_weight: ClassVar[float] = 1.0

    def __call__(self, known: Evidence) -> Float[Array, ""]:
        """The mean over all seeded pixels, not over images."""
        return partial_cross_entropy(known.logits, known.seeds, known.axis_name)
