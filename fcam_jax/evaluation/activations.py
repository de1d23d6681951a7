"""How the scores of a split's maps are distributed: a histogram of all pixels (F-CAM, Fig. 6). It has no figure."""

from collections.abc import Mapping
from typing import Any, no_type_check

import numpy as np

from fcam_jax.evaluation.metric import Metric, Scored
from fcam_jax.runtime.compiled import compiled

BINS = 256


class Activations(Metric):
    """Number of pixels by score.

    Counts: ``pixels``, with a score in ``[i, i + 1) / 256``, the last bin with a score of 1.
    """

    needs = ()
    extra = False

    def count(self, image: Scored) -> Mapping[str, Any]:
        """The histogram of one image."""
        return {"pixels": _histogram(image.score_map.ravel())}

    def compute(self) -> dict[str, float]:
        """Nothing: a distribution is looked at."""
        return {}


@compiled
@no_type_check
def _histogram(scores):
    pixels = np.zeros(BINS, np.int64)
    for score in scores:
        pixels[min(int(BINS * score), BINS - 1)] += 1
    return pixels
