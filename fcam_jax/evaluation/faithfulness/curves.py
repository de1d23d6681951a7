"""Insertion and deletion: does the class score hang on the pixels that a map ranks high?"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fcam_jax.evaluation.faithfulness.arrays import whole
from fcam_jax.evaluation.faithfulness.baseline import baseline_of, checked_baseline
from fcam_jax.evaluation.faithfulness.watched import Images, Score, measured


def insertion_curve(
    network: Any,
    images: Any,
    maps: Any,
    labels: Any = None,
    *,
    steps: int = 32,
    baseline: Any = "blur",
    watch: str = "softmax",
    batch_size: int = 32,
) -> Float[np.ndarray, "b n"]:
    """Probability of the class while pixels are put into a baseline, those that the map ranks highest first.

    Entry s of n + 1 is that of the image with the share s / n of its pixels; the first is the baseline's, the last the
    image's. Of pixels of equal score the first in raster order comes first, so a constant map goes row by row.

    Args:
      network: images [b, h, w, c] to class scores [b, k] before softmax; anything that can be jitted. NNX modules are
        set to eval in a copy. Of a classifier of this package images are RGB in [0, 255].
      images: in the range that the network takes.
      maps: [b, h, w], of the images' size; any finite numbers.
      labels: class of each image; where there are none, the predicted one.
      steps: n; each takes a pass through the network.
      baseline: "blur" (Gaussian, 11 x 11 pixels, deviation 5), "mean" (the image's mean colour), a number or a number
        for each channel.
      watch: "softmax" (of a single class its sigmoid), "sigmoid", "output" for outputs that are what is to be watched,
        or "top1": 1 where no class is higher, else 0.
      batch_size: images in the network at a time.

    Raises:
      InputError: an array or a setting cannot be used; NaN, shapes or labels that do not fit.

    Reference: Petsiuk et al., RISE, BMVC 2018, section 4.2; released program for the blur.
    Differs from: they watch the predicted class, which is the default here, too.
    """
    return _curve(_insertion, network, images, maps, labels, steps, baseline, watch, batch_size)


def deletion_curve(
    network: Any,
    images: Any,
    maps: Any,
    labels: Any = None,
    *,
    steps: int = 32,
    baseline: Any = 0.0,
    watch: str = "softmax",
    batch_size: int = 32,
) -> Float[np.ndarray, "b n"]:
    """Probability of the class while pixels are replaced by a baseline, those that the map ranks highest first.

    As `insertion_curve`, from the image to the baseline. That of 0 is the mean colour where images are normalised.
    """
    return _curve(_deletion, network, images, maps, labels, steps, baseline, watch, batch_size)


def insertion(network: Any, images: Any, maps: Any, labels: Any = None, **settings: Any) -> Float[np.ndarray, " b"]:
    """Area under the `insertion_curve`, in [0, 1] for a probability; better high.

    $$ \\frac1n \\sum_{s=0}^{n} c_s\\, p_y(X_s), \\quad c_0 = c_n = \\tfrac12, \\text{ else } 1 $$
    """
    return area(insertion_curve(network, images, maps, labels, **settings))


def deletion(network: Any, images: Any, maps: Any, labels: Any = None, **settings: Any) -> Float[np.ndarray, " b"]:
    """Area under the `deletion_curve`, as of `insertion`; better low."""
    return area(deletion_curve(network, images, maps, labels, **settings))


def area(curve: Any) -> Any:
    """Area under curves [..., n + 1] over [0, 1], by trapezoids."""
    return (curve.sum(axis=-1) - (curve[..., 0] + curve[..., -1]) / 2) / (curve.shape[-1] - 1)


def exchanged(score: Score, start: Images, end: Images, maps: Float[Array, "b h w"], steps: int) -> Float[Array, "b n"]:
    """Scores while pixels of `start` are exchanged for those of `end`, from high to low on the map, in `steps`.

    Memory is that of one pass over the batch, whatever the number of steps.
    """
    rank, pixels = ranks(maps), maps.shape[1] * maps.shape[2]
    counts = -(-np.arange(steps + 1) * pixels // steps)

    def at(count: Int[Array, ""]) -> Float[Array, " b"]:
        return score(jnp.where((rank < count)[..., None], end, start))

    return jax.lax.map(at, jnp.asarray(counts, jnp.int32)).T


def ranks(maps: Float[Array, "b h w"]) -> Int[Array, "b h w"]:
    """How many pixels of its map stand before each pixel: higher ones, and of equal ones the first in raster order."""
    ordered = jnp.argsort(maps.reshape(len(maps), -1), axis=1, stable=True, descending=True)
    return jnp.argsort(ordered, axis=1).reshape(maps.shape)


def _curve(
    figure: Any,
    network: Any,
    images: Any,
    maps: Any,
    labels: Any,
    steps: int,
    baseline: Any,
    watch: str,
    batch_size: int,
) -> Float[np.ndarray, "b n"]:
    whole("steps", steps)
    settings = {"steps": int(steps), "baseline": checked_baseline(baseline, images)}
    return measured(figure, network, images, maps, labels, watch=watch, batch_size=batch_size, **settings)


def _insertion(score: Score, images: Images, maps: Array, keys: Array, *, steps: int, baseline: Any) -> Array:
    return exchanged(score, baseline_of(images, baseline), images, maps, steps)


def _deletion(score: Score, images: Images, maps: Array, keys: Array, *, steps: int, baseline: Any) -> Array:
    return exchanged(score, images, baseline_of(images, baseline), maps, steps)
