"""How the scores of a split's maps are distributed: a histogram of all pixels (F-CAM, Fig. 6). It has no figure."""

import numpy as np
from jaxtyping import Int

from fcam_jax.evaluation.metric import Metric, checked_score_map
from fcam_jax.types import Annotation

BINS = 256


class Activations(Metric):
    """Number of pixels by score.

    Counts: ``images``; ``pixels``, with a score in ``[i, i + 1) / 256``, the last bin with a score of 1.
    """

    @classmethod
    def empty(cls, step: float = 0.001) -> "Activations":
        """The metric of no image."""
        return cls(step, {"images": np.zeros((), np.int64), "pixels": np.zeros(BINS, np.int64)})

    @staticmethod
    def measurable(annotation: Annotation) -> bool:
        """Always: no ground truth is needed."""
        return True

    def measure(self, score_map: np.ndarray, annotation: Annotation, rank: int | None = None) -> "Activations":
        """The histogram of one image; see `Metric.measure`."""
        bins = np.minimum(BINS * checked_score_map(score_map, annotation.image_id), BINS - 1).astype(np.uint8)
        pixels = np.bincount(bins.ravel(), minlength=BINS).astype(np.int64)
        return type(self)(self.step, {"images": np.ones((), np.int64), "pixels": pixels})

    def compute(self) -> dict[str, float]:
        """Nothing: a distribution is looked at."""
        return {}

    def histogram(self) -> Int[np.ndarray, "256"]:
        """Pixels by score."""
        return self.counts["pixels"]
