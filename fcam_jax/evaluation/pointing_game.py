"""The pointing game: does the highest score of a map lie on the object?

In: per image a score map and its boxes or mask; out: percentages. Needs neither threshold nor box of the map. Zhang et
al., Top-down Neural Attention by Excitation Backprop, IJCV 2018.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from fcam_jax.evaluation.metric import Figure, Metric, Scored
from fcam_jax.types import Annotation

TOLERANCE = 15  # pixels


class PointingGame(Metric):
    """Share of images whose map has its maximum on the object, and within 15 pixels of it.

    Of equal maxima the first in raster order counts. The object is the union of the image's boxes, or its mask.

    Counts: ``hits``, images with the maximum on the object and within the tolerance of it.

    Reference: Zhang et al., IJCV 2018, and their released program: a circle of radius 15 around the first maximum, in
    pixels of the original image, must meet the object.
    Differs from: it measures in the frame of the score map, and means over images instead of classes.
    """

    figures = (Figure("PointingGame"), Figure(f"PointingGame_{TOLERANCE}px"))

    def count(self, image: Scored) -> Mapping[str, Any]:
        """Counts of one image; see the class."""
        y, x = divmod(int(image.score_map.argmax()), image.score_map.shape[1])
        distance = _squared_distances(x, y, image.annotation).min(initial=np.inf)
        return {"hits": distance <= np.array([0, TOLERANCE**2])}

    def compute(self) -> dict[str, float]:
        """Both shares in percent."""
        images = self.images
        shares = (100 * self.counts["hits"] / images).tolist()
        return {figure.name: share for figure, share in zip(self.figures, shares, strict=True)}


def _squared_distances(x: int, y: int, annotation: Annotation) -> Float[np.ndarray, " n"]:
    """Squared distance of a pixel to every box, or to every pixel of the mask."""
    if annotation.boxes is not None:
        x0, y0, x1, y1 = annotation.boxes.T.astype(np.float64)
        return np.maximum(0, np.maximum(x0 - x, x - x1)) ** 2 + np.maximum(0, np.maximum(y0 - y, y - y1)) ** 2
    rows, columns = np.nonzero(np.asarray(annotation.mask))
    return ((columns - x) ** 2 + (rows - y) ** 2).astype(np.float64)
