"""How alike two maps are: rank correlation, correlation, structural similarity."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import rankdata
from jaxtyping import Array, Float

from fcam_jax.cams.score_maps import minmax
from fcam_jax.evaluation.faithfulness.blur import gaussian_blur

Maps = Float[Array | np.ndarray, "b h w"]

_SIDE, _DEVIATION = 11, 1.5  # of the window of SSIM
_K1, _K2 = 0.01, 0.03  # its constants


def pearson(first: Maps, second: Maps) -> Float[Array, " b"]:
    """Correlation of each pair of maps, in [-1, 1]; 0 where one of them is constant."""
    first, second = jnp.asarray(first), jnp.asarray(second)
    centred = (maps - maps.mean(axis=(1, 2), keepdims=True) for maps in (first, second))
    # Scaled before they are multiplied, so that small maps do not vanish in float32.
    one, other = (maps / jnp.maximum(jnp.abs(maps).max(axis=(1, 2), keepdims=True), 1e-30) for maps in centred)
    norm = jnp.sqrt((one**2).sum(axis=(1, 2)) * (other**2).sum(axis=(1, 2)))
    constant = (jnp.ptp(first, axis=(1, 2)) == 0) | (jnp.ptp(second, axis=(1, 2)) == 0) | (norm == 0)
    return jnp.where(constant, 0, jnp.clip((one * other).sum(axis=(1, 2)) / jnp.where(constant, 1, norm), -1, 1))


def spearman(first: Maps, second: Maps) -> Float[Array, " b"]:
    """Correlation of the ranks of each pair of maps, in [-1, 1]; 0 where one of them is constant.

    Pixels of equal score share the mean of their ranks.
    """
    ranks = (rankdata(jnp.asarray(maps).reshape(len(maps), -1), axis=1).reshape(maps.shape) for maps in (first, second))
    return pearson(*ranks)


def ssim(first: Maps, second: Maps) -> Float[Array, " b"]:
    """Structural similarity of each pair of maps, scaled to [0, 1] before; in [-1, 1].

    $$ \\frac{(2 \\mu_1 \\mu_2 + c_1)(2 \\sigma_{12} + c_2)}
       {(\\mu_1^2 + \\mu_2^2 + c_1)(\\sigma_1^2 + \\sigma_2^2 + c_2)}, \\qquad c_i = K_i^2, \\; K = 0.01, 0.03 $$

    as the mean over all Gaussian windows of 11 x 11 pixels (deviation 1.5) that lie within the map; of a map that is
    smaller, windows of its own odd side. A constant map is 0 everywhere.

    Reference: Wang et al., Image Quality Assessment, IEEE TIP 2004, Eq. 13.
    """
    side = min(_SIDE, *(size - 1 + size % 2 for size in first.shape[1:]))
    reach = side // 2

    def local(values: Float[Array, "b h w"]) -> Float[Array, "b _ _"]:
        blurred = gaussian_blur(values[..., None], side, _DEVIATION)[..., 0]
        return blurred[:, reach : values.shape[1] - reach, reach : values.shape[2] - reach]

    one, other = minmax(jnp.asarray(first)), minmax(jnp.asarray(second))
    mean1, mean2 = local(one), local(other)
    spread = local(one**2) - mean1**2 + local(other**2) - mean2**2
    shared = local(one * other) - mean1 * mean2
    c1, c2 = _K1**2, _K2**2
    alike = (2 * mean1 * mean2 + c1) * (2 * shared + c2) / ((mean1**2 + mean2**2 + c1) * (spread + c2))
    return alike.mean(axis=(1, 2))
