"""Classification accuracy of images without boxes; where there are boxes, it is one of the box metrics' figures."""

import numpy as np
from jaxtyping import Float

from fcam_jax.evaluation.metric import Metric
from fcam_jax.types import Annotation


class ClassAccuracy(Metric):
    """Share of images with the true class among the first one and the first five predictions.

    Counts: ``images``; ``ranked``, images with a prediction; ``classified``, images with the true class among the first
    one and five.
    """

    @classmethod
    def empty(cls, step: float = 0.001) -> "ClassAccuracy":
        """The metric of no image."""
        zero = np.zeros((), np.int64)
        return cls(step, {"images": zero, "ranked": zero, "classified": np.zeros(2, np.int64)})

    @staticmethod
    def measurable(annotation: Annotation) -> bool:
        """Whether the image comes from a data set without boxes."""
        return annotation.boxes is None

    def measure_checked(
        self, score_map: Float[np.ndarray, "h w"], annotation: Annotation, rank: int | None = None
    ) -> "ClassAccuracy":
        """The metric of one image; see `Metric.measure_checked`. The map plays no part."""
        within = np.array([rank is not None and rank < 1, rank is not None and rank < 5])
        counts = {
            "images": np.ones((), np.int64),
            "ranked": np.array(rank is not None, np.int64),
            "classified": within.astype(np.int64),
        }
        return type(self)(self.step, counts)

    def compute(self) -> dict[str, float]:
        """Top-1 and top-5 classification accuracy in percent; empty without predictions."""
        if self.counts["ranked"] == 0:
            return {}
        top1, top5 = 100 * self.counts["classified"] / self.counts["ranked"]
        return {"top1_cls": float(top1), "top5_cls": float(top5)}
