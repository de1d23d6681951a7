"""Mask metric of the protocol: PxAP, the pixel average precision of the score maps of a whole data set.

In: per image a score map, its object mask and its ignore mask; out: PxAP in percent, and the curve of precision
against recall. Only two histograms of scores are kept. Choe et al., CVPR 2020, Sec. 4.1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from fcam_jax.errors import InputError
from fcam_jax.evaluation.metric import Figure, Metric, Scored, thresholds


class PixelPrecision(Metric):
    """Area under the precision-recall curve of "this pixel shows the object", over all pixels of a data set.

    $$ PxAP = \\sum_{i \\ge 1} P_i (R_i - R_{i-1}), $$

    i over bins of scores from high to low. Pixels of the ignore mask that are not foreground do not count.

    Counts: ``foreground`` and ``background``, pixels in each bin of scores, from low to high.
    """

    figures = (Figure("PxAP", column=30, selects=20),)
    needs = ("mask",)
    extra = False

    def count(self, image: Scored) -> Mapping[str, Any]:
        """Histograms of one image; see the class."""
        scores, truth = image.score_map, image.annotation
        ignore = np.zeros(scores.shape, bool) if truth.ignore is None else truth.ignore
        for name, mask in (("mask", truth.mask), ("ignore mask", ignore)):
            if mask is None or mask.dtype != bool or mask.shape != scores.shape:
                there = "missing" if mask is None else f"{mask.dtype} {mask.shape}"
                raise InputError(f"image {truth.image_id}: {name} is {there}, must be bool {scores.shape}")
        edges, mask = bin_edges(self.step), np.asarray(truth.mask)
        parts = {"foreground": mask, "background": ~mask & ~ignore}
        return {name: np.histogram(scores[part], edges)[0] for name, part in parts.items()}

    def curve(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Precision and recall in [0, 1] when pixels from a bin upwards are taken as object, from high scores to low.

        Precision is 0 where no pixel is taken. Raises InputError: no image was evaluated, or no image has a foreground
        pixel.
        """
        if not self.images or not self.counts["foreground"].any():
            raise InputError("pixel precision without a foreground pixel: the masks of the evaluated split are empty")
        hits = np.cumsum(self.counts["foreground"][::-1])
        taken = hits + np.cumsum(self.counts["background"][::-1])
        return hits / np.maximum(taken, 1), hits / hits[-1]

    def compute(self) -> dict[str, float]:
        """PxAP in percent; as `curve`."""
        precision, recall = self.curve()
        return {"PxAP": float(100 * np.sum(precision[1:] * np.diff(recall)))}

    def of_part(self, best: Mapping[str, int]) -> dict[str, float]:
        """PxAP of the part's pixels; none where it has no foreground."""
        return self.compute() if self.counts["foreground"].any() else {}

    def row(self, image: Scored, tau: float | None) -> dict[str, Any]:
        """PxAP of the image alone; empty where it has no foreground."""
        return {"PxAP": "", **self.measure(image).of_part({})}


def bin_edges(step: float) -> Float[np.ndarray, " n"]:
    """Edges of the half-open bins of scores: the thresholds, then 1, 2, 3; a score of exactly 1 stands alone."""
    return np.append(thresholds(step), [1.0, 2.0, 3.0])
