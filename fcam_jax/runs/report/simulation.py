"""What low resolution alone costs: PxAP of a perfect map that is reduced by a factor and enlarged again.

In: true masks. Out: PxAP by factor. The slides of the F-CAM paper motivate full-resolution maps by this curve.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from jaxtyping import Float

from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.types import Annotation

FACTORS = (1, 2, 4, 8, 16, 32)
# The protocol's has 1,000; a few of them tell the areas apart as well.
_THRESHOLD_STEP = 0.01


def pxap_by_factor(truths: Iterable[Annotation], factors: Sequence[int] = FACTORS) -> list[float]:
    """PxAP in percent of perfect maps at reduced resolution.

    Args:
      truths: with masks, at least one with a foreground pixel.
      factors: the image's side over the map's.
    """
    totals = [PixelPrecision.empty(_THRESHOLD_STEP) for _ in factors]
    for truth in truths:
        assert truth.mask is not None
        perfect = truth.mask.astype(np.float64)
        totals = [
            total.update(reduced_and_enlarged(perfect, factor), truth)
            for total, factor in zip(totals, factors, strict=True)
        ]
    return [total.compute()["PxAP"] for total in totals]


def reduced_and_enlarged(score_map: Float[np.ndarray, "h w"], factor: int) -> Float[np.ndarray, "h w"]:
    """The map as means of cells of `factor` by `factor` pixels, enlarged bilinearly."""
    height, width = score_map.shape
    cells = max(1, round(width / factor)), max(1, round(height / factor))
    low = cv2.resize(score_map, cells, interpolation=cv2.INTER_AREA)
    return np.clip(cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
