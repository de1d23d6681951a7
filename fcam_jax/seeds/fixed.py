"""A threshold at the same height of every map, inside jit."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from fcam_jax.seeds.otsu import LEVELS


def fixed_threshold(counts: Int[Array, "b 256"], share: float) -> Int[Array, " b"]:
    """Level at a share of the range from a map's lowest level to its highest.

    $$ t = \\lfloor l + s \\, (h - l) \\rfloor $$

    A crop of a CAM need not reach from 0 to 1, so it is the range of the map that counts.

    Args:
      counts: histograms.
      share: s, in (0, 1).

    Returns:
      Thresholds in [0, 255]. Foreground is level > threshold.
    """
    low = jnp.argmax(counts > 0, axis=1)
    high = LEVELS - 1 - jnp.argmax(counts[:, ::-1] > 0, axis=1)
    return jnp.floor(low + share * (high - low)).astype(low.dtype)
