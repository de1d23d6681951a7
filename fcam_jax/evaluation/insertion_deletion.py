"""Insertion and deletion: does the class score hang on the pixels that a map ranks high?

On the device: pixels are shown or taken away in the order of the map, and the class's probability is watched. In:
images, labels, maps and the classifier; out: areas under both curves, per image. No ground truth but the label is
needed. Petsiuk et al., RISE, BMVC 2018, section 4.2.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from fcam_jax.component import at_least
from fcam_jax.evaluation.device_measure import DEVICE_MEASURES, DeviceMeasure
from fcam_jax.losses.classification import class_probabilities
from fcam_jax.types import Batch, Localization

# Side and deviation of the blur that insertion starts from, in pixels.
_BLUR_SIDE, _BLUR_DEVIATION = 11, 5.0


@DEVICE_MEASURES.register("InsertionDeletion")
@dataclasses.dataclass(frozen=True, kw_only=True)
class InsertionDeletion(DeviceMeasure):
    """Mean areas under the curves of the class's probability: Insertion is better high, Deletion low.

    Attributes:
      steps: of both curves; each takes two forward passes an image.
    """

    steps: int = 32

    def __post_init__(self) -> None:
        at_least(self, steps=1)

    def measure(self, model: Any, batch: Batch, found: Localization) -> dict[str, Float[Array, " b"]]:
        """Areas under the two curves of each map."""
        classifier = getattr(model, "classifier", model)
        areas = insertion_deletion(
            lambda shown: classifier(shown, train=False)[1],
            jnp.asarray(batch.images),
            jnp.asarray(batch.labels),
            jnp.asarray(found.maps),
            blank=jnp.asarray(classifier.encoder.mean, jnp.float32),
            steps=self.steps,
        )
        return {"Insertion": areas[:, 0], "Deletion": areas[:, 1]}


def insertion_deletion(
    score: Callable[[Float[Array, "b h w 3"]], Float[Array, "b k"]],
    images: Num[Array, "b h w 3"],
    labels: Int[Array, " b"],
    maps: Float[Array, "b h w"],
    *,
    blank: Float[Array, "3"],
    steps: int,
) -> Float[Array, "b 2"]:
    """Areas under the insertion and the deletion curve of each image, in [0, 1].

    At step s of n the share s / n of the pixels that the map ranks highest is taken from the image, the rest from a
    blurred one (insertion), or the other way round with a blank one (deletion). Of pixels of equal score the first in
    raster order counts as higher. The area is that of the trapezoids.

    $$ \\frac1n \\sum_{s=0}^{n} c_s\\, p_y(X_s), \\quad c_0 = c_n = \\tfrac12, \\text{ else } 1 $$

    Memory is that of one pass over the batch, whatever the number of steps.

    Args:
      score: class scores before softmax of images in [0, 255].
      images: RGB in [0, 255].
      labels: class y whose probability is watched.
      maps: score maps of the images.
      blank: colour of a pixel that is taken away; the mean that the network subtracts.
      steps: n, above 0; each takes two passes through the network.

    Reference: Petsiuk et al., RISE, BMVC 2018, section 4.2; released program for the blur (11 pixels, deviation 5).
    Differs from: it watches the class that the map is of, not the predicted one.
    """
    images = images.astype(jnp.float32)
    blurred = _blur(images)
    order = _ranks(maps)
    pixels = maps.shape[1] * maps.shape[2]

    def probability(shown: Float[Array, "b h w 3"]) -> Float[Array, " b"]:
        probs = class_probabilities(score(shown).astype(jnp.float32))
        return jnp.take_along_axis(probs, labels[:, None], axis=1)[:, 0]

    def at(s: Int[Array, ""]) -> Float[Array, "2 b"]:
        high = (order * steps < s * pixels)[..., None]
        return jnp.stack([probability(jnp.where(high, images, blurred)), probability(jnp.where(high, blank, images))])

    curves = jax.lax.map(at, jnp.arange(steps + 1))
    return ((curves.sum(axis=0) - (curves[0] + curves[-1]) / 2) / steps).T


def _ranks(maps: Float[Array, "b h w"]) -> Int[Array, "b h w"]:
    """How many pixels of its map stand before each pixel."""
    flat = maps.reshape(len(maps), -1)
    order = jnp.argsort(flat, axis=1, stable=True, descending=True)
    return jnp.argsort(order, axis=1).reshape(maps.shape)


def _blur(images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """A Gaussian blur; beyond its edges the image is reflected."""
    reach = _BLUR_SIDE // 2
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * _BLUR_DEVIATION**2))
    kernel /= kernel.sum()
    for axis in (1, 2):
        padding = [(0, 0)] * 4
        padding[axis] = (reach, reach)
        padded = jnp.pad(images, padding, mode="symmetric")
        side = images.shape[axis]
        images = sum(
            (float(k) * jax.lax.slice_in_dim(padded, i, i + side, axis=axis) for i, k in enumerate(kernel)),
            start=jnp.zeros(()),
        )
    return images
