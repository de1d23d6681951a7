"""The pointing game: does the highest score of a map lie on the object?

In: per image a score map and its boxes or mask; out: percentages. Needs neither threshold nor box of the map. Zhang et
al., Top-down Neural Attention by Excitation Backprop, IJCV 2018.
"""

import numpy as np
from jaxtyping import Float

from fcam_jax.errors import InputError
from fcam_jax.evaluation.metric import Metric
from fcam_jax.types import Annotation

TOLERANCE = 15  # pixels


class PointingGame(Metric):
    """Share of images whose map has its maximum on the object, and within 15 pixels of it.

    Of equal maxima the first in raster order counts. The object is the union of the image's boxes, or its mask.

    Counts: ``images``; ``hits``, images with the maximum on the object and within the tolerance of it.

    Reference: Zhang et al., IJCV 2018, and their released program: a circle of radius 15 around the first maximum, in
    pixels of the original image, must meet the object.
    Differs from: it measures in the frame of the score map, and means over images instead of classes.
    """

    @classmethod
    def empty(cls, step: float = 0.001) -> "PointingGame":
        """The metric of no image."""
        return cls(step, {"images": np.zeros((), np.int64), "hits": np.zeros(2, np.int64)})

    @staticmethod
    def measurable(annotation: Annotation) -> bool:
        """Whether the image has boxes or a mask."""
        return annotation.boxes is not None or annotation.mask is not None

    def measure_checked(
        self, score_map: Float[np.ndarray, "h w"], annotation: Annotation, rank: int | None = None
    ) -> "PointingGame":
        """The metric of one image, whose rank plays no part; see `Metric.measure_checked`."""
        y, x = divmod(int(score_map.argmax()), score_map.shape[1])
        distance = _squared_distances(x, y, annotation).min(initial=np.inf)
        hits = distance <= np.array([0, TOLERANCE**2])
        return type(self)(self.step, {"images": np.ones((), np.int64), "hits": hits.astype(np.int64)})

    def compute(self) -> dict[str, float]:
        """Both shares in percent.

        Raises:
          InputError: no image was evaluated.
        """
        if self.counts["images"] == 0:
            raise InputError("pointing game of no image: the evaluated split is empty")
        on_object, near = 100 * self.counts["hits"] / self.counts["images"]
        return {"PointingGame": float(on_object), f"PointingGame_{TOLERANCE}px": float(near)}


def _squared_distances(x: int, y: int, annotation: Annotation) -> Float[np.ndarray, " n"]:
    """Squared distance of a pixel to every box, or to every pixel of the mask."""
    if annotation.boxes is not None:
        x0, y0, x1, y1 = annotation.boxes.T.astype(np.float64)
        return np.maximum(0, np.maximum(x0 - x, x - x1)) ** 2 + np.maximum(0, np.maximum(y0 - y, y - y1)) ** 2
    rows, columns = np.nonzero(np.asarray(annotation.mask))
    return ((columns - x) ** 2 + (rows - y) ** 2).astype(np.float64)
