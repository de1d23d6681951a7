"""The pointing game: does the highest score of a map lie on the object? It needs no threshold and no box of the map."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fcam_jax.evaluation.metric import Figure, Metric, Scored

TOLERANCE = 15  # pixels


class PointingGame(Metric):
    """Share of images whose map has its maximum on the object, and within 15 pixels of it.

    Of equal maxima the first in raster order counts. The object is the union of the image's boxes, or its mask.

    Counts: ``hits``, images with the maximum on the object and within the tolerance of it.

    Reference: Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018, and their released program: a
    circle of radius 15 around the first maximum, in pixels of the original image, must meet the object.
    Differs from: it measures in the frame of the score map, and means over images instead of classes.
    """

    figures = (Figure("PointingGame"), Figure(f"PointingGame_{TOLERANCE}px"))

    def count(self, image: Scored) -> Mapping[str, Any]:
        y, x = divmod(int(image.score_map.argmax()), image.score_map.shape[1])
        rows, columns = np.nonzero(image.object)
        distance = ((columns - x) ** 2 + (rows - y) ** 2).min(initial=np.iinfo(np.int64).max)  # squared
        return {"hits": distance <= np.array([0, TOLERANCE**2])}

    def compute(self) -> dict[str, float]:
        """Both shares in percent."""
        images = self.images
        shares = (100 * self.counts["hits"] / images).tolist()
        return {figure.name: share for figure, share in zip(self.figures, shares, strict=True)}
