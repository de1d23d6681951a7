"""How well the box of the largest contour fits, as a mean instead of a share of images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fcam_jax.evaluation.box_accuracy import overlap
from fcam_jax.evaluation.metric import UNIT, Figure, Metric, Scored


class MeanBestIoU(Metric):
    """Mean over the images of the largest contour's best IoU, in percent, at the best threshold of MaxBoxAcc.

    Counts, by threshold: ``localized``, images with an IoU of at least 50 %; ``overlap``, sums of IoUs in units of
    2^-32.
    """

    figures = (Figure("MeanBestIoU"),)
    needs = ("boxes",)

    def count(self, image: Scored) -> Mapping[str, Any]:
        """Counts of one image; see the class."""
        iou = overlap(image, self.step).largest
        return {"localized": iou >= 0.5, "overlap": np.rint(iou / UNIT)}

    def best(self) -> dict[str, int]:
        """Position of the best threshold of MaxBoxAcc."""
        return {"MeanBestIoU": int(self.counts["localized"].argmax())}

    def compute(self) -> dict[str, float]:
        """The mean IoU."""
        return {"MeanBestIoU": self._mean(self.best()["MeanBestIoU"])}

    def of_part(self, best: Mapping[str, int]) -> dict[str, float]:
        """The part's mean IoU at the threshold that is best for the whole."""
        return {self.figures[0].at("best"): self._mean(best["MeanBestIoU"])}

    def _mean(self, position: int) -> float:
        return float(100 * UNIT * self.counts["overlap"][position] / self.images)
