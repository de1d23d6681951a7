"""Cross-entropy over the few pixels that carry a pseudo-label (F-CAM, Eq. 3, first term)."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.data.arrays import array_of, bounds_of, known
from fcam_jax.errors import InputError
from fcam_jax.losses.term import Evidence, LossTerm


def partial_cross_entropy(logits: Any, seeds: Any, axis_name: str | None = None) -> Float[Array, ""]:
    """Mean cross-entropy of the seeded pixels of the batch; 0 where there are none.

    $$ H = -\\frac{1}{|\\Omega'|} \\sum_{p \\in \\Omega'} \\log S_p^{Y_p} $$

    Args:
      logits: scores of the regions before softmax, [b, h, w, k], or [h, w, k] of one image; k is 2 or more.
      seeds: integers of the shape of the logits without k: region of each seeded pixel, negative where it is unknown.
      axis_name: mesh axis over which the batch is spread; the mean is taken over the whole of it.

    Returns:
      Nats, at least 0.

    Raises:
      InputError: the shapes do not fit each other, or a seed is of a region that does not exist.

    Reference: F-CAM (WACV 2022), Eq. 3.
    Differs from: the paper writes a sum; the released program takes the mean over seeded pixels, as done here.
    """
    logits, seeds = array_of(logits, "logits"), array_of(seeds, "seeds")
    if logits.shape[:-1] != seeds.shape or logits.shape[-1:] < (2,):
        raise InputError(
            f"logits have the shape {logits.shape} and seeds {seeds.shape}; "
            "it must be (..., regions) and (...), with 2 regions or more"
        )
    regions = logits.shape[-1]
    if not jnp.issubdtype(seeds.dtype, jnp.integer) or (known(seeds) and bounds_of(seeds)[1] >= regions):
        raise InputError(f"seeds must be integers below the number of regions, {regions}, negative where unknown")
    seeds = jnp.asarray(seeds)
    seeded = seeds >= 0
    log_probs = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32))
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
