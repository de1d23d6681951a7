"""Measures that need the network, and so are taken on the device while the maps are made: another kind than metrics.

Insertion and deletion ask whether the class score hangs on the pixels that a map ranks high.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from fcam_jax.component import Registry, at_least
from fcam_jax.losses.classification import class_probabilities
from fcam_jax.methods.contract import Localizer
from fcam_jax.types import Batch, Localization


class DeviceMeasure(abc.ABC):
    """A frozen dataclass of settings; the means of its figures over the split stand beside those of the metrics."""

    needs_classes: ClassVar[bool] = True  # whether it watches class scores, which some methods do not have

    @abc.abstractmethod
    def measure(self, model: Any, batch: Batch, found: Localization) -> dict[str, Float[Array, " b"]]:
        """Figures of each image by name, in [0, 1]; compiled with the model's forward pass.

        The model is a `Classifier`, or has one as its ``classifier``; `found` has maps and scores of the batch.
        """


DEVICE_MEASURES: Registry[type[DeviceMeasure]] = Registry("device measure", {})


@dataclasses.dataclass(frozen=True)
class WithMeasures:
    """A localizer whose maps are judged by measures on the device, too."""

    localizer: Localizer
    measures: Sequence[DeviceMeasure]

    def localize(self, model: Any, batch: Batch) -> Localization:
        """The localizer's maps and scores, and the figures of the measures."""
        found = self.localizer.localize(model, batch)
        figures: dict[str, Float[Array, " b"]] = {}
        for one in self.measures:
            figures |= one.measure(model, batch, found)
        return dataclasses.replace(found, measures=figures)


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
    pixels = maps.shape[1] * maps.shape[2]
    ordered = jnp.argsort(maps.reshape(-1, pixels), axis=1, stable=True, descending=True)
    rank = jnp.argsort(ordered, axis=1).reshape(maps.shape)  # how many pixels of its map stand before each pixel

    def probability(shown: Float[Array, "b h w 3"]) -> Float[Array, " b"]:
        probs = class_probabilities(score(shown).astype(jnp.float32))
        return jnp.take_along_axis(probs, labels[:, None], axis=1)[:, 0]

    def at(s: Int[Array, ""]) -> Float[Array, "2 b"]:
        high = (rank * steps < s * pixels)[..., None]
        return jnp.stack([probability(jnp.where(high, images, blurred)), probability(jnp.where(high, blank, images))])

    curves = jax.lax.map(at, jnp.arange(steps + 1))
    return ((curves.sum(axis=0) - (curves[0] + curves[-1]) / 2) / steps).T


def _blur(images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """A Gaussian blur; beyond its edges the image is reflected."""
    reach = _BLUR_SIDE // 2
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * _BLUR_DEVIATION**2))
    kernel /= kernel.sum()
    for axis in (1, 2):
        side = images.shape[axis]
        padding = [(reach, reach) if one == axis else (0, 0) for one in range(4)]
        padded = jnp.pad(images, padding, mode="symmetric")
        shifted = (jax.lax.slice_in_dim(padded, i, i + side, axis=axis) for i in range(_BLUR_SIDE))
        images = sum((float(k) * one for k, one in zip(kernel, shifted, strict=True)), start=jnp.zeros(()))
    return images
