"""How the scores of a split's maps are distributed: a histogram of all pixels (F-CAM, Fig. 6). It has no figure."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int

from fcam_jax.evaluation.metric import Metric
from fcam_jax.runtime.compiled import compiled
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

    def measure_checked(
        self, score_map: Float[np.ndarray, "h w"], annotation: Annotation, rank: int | None = None
    ) -> "Activations":
        """The histogram of one image; see `Metric.measure_checked`."""
        return type(self)(self.step, {"images": np.ones((), np.int64), "pixels": _histogram(score_map.ravel())})

    def compute(self) -> dict[str, float]:
        """Nothing: a distribution is looked at."""
        return {}

    def histogram(self) -> Int[np.ndarray, "256"]:
        """Pixels by score."""
        return self.counts["pixels"]


@compiled
@no_type_check
def _histogram(scores):
    pixels = np.zeros(BINS, np.int64)
    for score in scores:
        pixels[min(int(BINS * score), BINS - 1)] += 1
    return pixels
