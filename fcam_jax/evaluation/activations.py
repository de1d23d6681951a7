"""How the scores of a split's maps are distributed: a histogram of all pixels (F-CAM, Fig. 6). It has no figure."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fcam_jax.evaluation.metric import Metric, Scored

BINS = 256


class Activations(Metric):
    """Number of pixels by score.

    Counts: ``pixels``, with a score in ``[i, i + 1) / 256``, the last bin with a score of 1.
    """

    needs = ()
    extra = False

    def count(self, image: Scored) -> Mapping[str, Any]:
        """The histogram of one image."""
        bins = np.minimum(BINS * image.score_map.ravel(), BINS - 1)
        return {"pixels": np.bincount(bins.astype(np.intp), minlength=BINS)}
