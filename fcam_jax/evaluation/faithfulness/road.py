"""ROAD: the class score while pixels are removed and filled in, so that the network sees nearly an image."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from fcam_jax.component import is_number
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.evaluation.faithfulness.arrays import not_negative
from fcam_jax.evaluation.faithfulness.curves import ranks
from fcam_jax.evaluation.faithfulness.imputation import impute
from fcam_jax.evaluation.faithfulness.watched import Images, Score, measured

ORDERS = ("most", "least", "both")
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def road_curve(
    network: Any,
    images: Any,
    maps: Any,
    labels: Any = None,
    *,
    order: str = "both",
    shares: Any = SHARES,
    noise: float = 0.01,
    key: Any = None,
    watch: str = "softmax",
    batch_size: int = 32,
) -> Float[np.ndarray, "b n"]:
    """Probability of the class when a share of the pixels is removed and filled in by `impute`, for each share.

    Arguments and errors that are not named are those of `insertion_curve`.

    Args:
      order: which pixels are removed first: "most" relevant, "least" relevant, or "both": half the difference of what
        is left without the least and without the most relevant ones. A constant map loses its rows from the top, or
        from the bottom.
      shares: of the pixels, in (0, 1); rounded down to whole pixels. Each takes a pass through the network, of "both"
        two.
      noise: of the filled pixels, in standard deviations of each image.
      key: a seed, a key, or a key for each image; by default seed 0.
    """
    if order not in ORDERS:
        raise unknown_name("order", order, ORDERS)
    not_negative("noise", noise)
    given = tuple(np.ravel(shares).tolist())
    for share in given or (None,):
        if share is None or not is_number(share) or not 0 < share < 1:
            raise InputError(f"shares is {shares!r:.100}; it must hold shares of the pixels, between 0 and 1")
    settings = {"order": order, "shares": given, "noise": float(noise)}
    return measured(_road, network, images, maps, labels, watch=watch, batch_size=batch_size, key=key, **settings)


def road(network: Any, images: Any, maps: Any, labels: Any = None, **settings: Any) -> Float[np.ndarray, " b"]:
    """Mean of the `road_curve` over the shares.

    $$ \\frac1n \\sum_{i=1}^{n} \\frac{p_y(X_{i}^{\\mathrm{least}}) - p_y(X_{i}^{\\mathrm{most}})}2 $$

    By default, better high, in [-1/2, 1/2] and 0 for a map that knows nothing. Of `order="most"` the mean probability,
    better low; of "least" better high.

    Reference: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022; half the
    difference as pytorch-grad-cam's ROADCombined has it.
    Differs from: the paper watches the accuracy, which is the mean over images of `watch="top1"`.
    """
    return road_curve(network, images, maps, labels, **settings).mean(axis=1)


def _road(
    score: Score,
    images: Images,
    maps: Float[Array, "b h w"],
    keys: Key[Array, " b"],
    *,
    order: str,
    shares: tuple[float, ...],
    noise: float,
) -> Float[Array, "b n"]:
    rank, pixels = ranks(maps), maps.shape[1] * maps.shape[2]
    counts = np.floor(np.array(shares) * pixels + 1e-6).astype(np.int32)
    sides = {"most": [0], "least": [1], "both": [0, 1]}[order]
    grid = np.array([(side, count) for side in sides for count in counts], np.int32)

    def kept(side: Int[Array, ""], count: Int[Array, ""]) -> Bool[Array, "b h w"]:
        return jnp.where(side == 0, rank >= count, rank < pixels - count)

    def at(one: tuple[Int[Array, ""], Int[Array, "2"]]) -> Float[Array, " b"]:
        place, (side, count) = one
        drawn = jax.vmap(lambda key: jax.random.fold_in(key, place))(keys)
        return score(impute(images, kept(side, count), noise=noise, key=drawn))

    values = jax.lax.map(at, (jnp.arange(len(grid)), jnp.asarray(grid))).T
    if order != "both":
        return values
    most, least = jnp.split(values, 2, axis=1)
    return (least - most) / 2
