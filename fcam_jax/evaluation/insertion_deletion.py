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

from fcam_jax.errors import InputError
from fcam_jax.evaluation.metric import Metric
from fcam_jax.methods.baselines import Localizer
from fcam_jax.types import Annotation, Batch, Localization

# Areas are summed as whole multiples of this, so that their sum does not depend on the order of the images.
_UNIT = 2.0**-32

# Side and deviation of the blur that insertion starts from, in pixels.
_BLUR_SIDE, _BLUR_DEVIATION = 11, 5.0


class InsertionDeletion(Metric):
    """Mean areas under the curves of the class's probability, in percent: Insertion is better high, Deletion low.

    Counts: ``images``; ``areas``, sums of the areas under the insertion and the deletion curve, in units of 2^-32.
    """

    @classmethod
    def empty(cls, step: float = 0.001) -> "InsertionDeletion":
        """The metric of no image."""
        return cls(step, {"images": np.zeros((), np.int64), "areas": np.zeros(2, np.int64)})

    @classmethod
    def of_image(cls, areas: Float[np.ndarray, "2"], step: float) -> "InsertionDeletion":
        """The metric of one image, from `insertion_deletion`."""
        counts = np.rint(np.asarray(areas, np.float64) / _UNIT).astype(np.int64)
        return cls(step, {"images": np.ones((), np.int64), "areas": counts})

    @staticmethod
    def measurable(annotation: Annotation) -> bool:
        """Never from a score map alone: it takes the classifier, see `of_image`."""
        return False

    def measure_checked(
        self, score_map: Float[np.ndarray, "h w"], annotation: Annotation, rank: int | None = None
    ) -> "InsertionDeletion":
        """Not from a score map alone."""
        raise NotImplementedError

    def compute(self) -> dict[str, float]:
        """Both areas in percent.

        Raises:
          InputError: no image was evaluated.
        """
        if self.counts["images"] == 0:
            raise InputError("insertion and deletion of no image: the evaluated split is empty")
        insertion, deletion = 100 * _UNIT * self.counts["areas"] / self.counts["images"]
        return {"Insertion": float(insertion), "Deletion": float(deletion)}


@dataclasses.dataclass(frozen=True)
class WithInsertionDeletion:
    """A localizer whose maps are judged by insertion and deletion too.

    Attributes:
      localizer: yields the maps.
      steps: of both curves.
    """

    localizer: Localizer
    steps: int

    def localize(self, model: Any, batch: Batch) -> Localization:
        """The localizer's maps and scores, and the areas under the two curves."""
        found = self.localizer.localize(model, batch)
        images = jnp.asarray(batch.images)
        classifier = getattr(model, "classifier", model)
        areas = insertion_deletion(
            lambda shown: classifier(shown, train=False)[1],
            images,
            jnp.asarray(batch.labels),
            jnp.asarray(found.maps),
            blank=jnp.asarray(classifier.encoder.mean, jnp.float32),
            steps=self.steps,
        )
        return dataclasses.replace(found, insertion_deletion=areas)


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
        probs = jax.nn.softmax(score(shown).astype(jnp.float32))
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
