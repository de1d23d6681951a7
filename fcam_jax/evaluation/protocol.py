"""What both localization metrics share: the thresholds of the protocol and the demands on a score map."""

import numpy as np
from jaxtyping import Float

from fcam_jax.errors import InputError


def thresholds(step: float) -> Float[np.ndarray, " t"]:
    """Thresholds of the protocol, ``0, step, 2 step, ...`` below 1.

    Args:
      step: distance of two thresholds, in (0, 1]; the protocol's is .001.

    Raises:
      InputError: the step is outside (0, 1].
    """
    if not 0 < step <= 1:
        raise InputError(f"threshold step is {step}, must lie in (0, 1], e.g. .001")
    return np.arange(0, 1, step)


def checked_score_map(score_map: np.ndarray, image_id: str) -> Float[np.ndarray, "h w"]:
    """The score map in float64, after a check that it can be evaluated.

    Args:
      score_map: score of every pixel, in [0, 1].
      image_id: the image's key, for the message.

    Raises:
      InputError: the map is not a non-empty matrix of numbers, or holds NaN, infinity or values outside [0, 1].
    """
    if score_map.ndim != 2 or score_map.size == 0:
        raise InputError(f"image {image_id}: score map has shape {score_map.shape}, must be (height, width)")
    if not np.issubdtype(score_map.dtype, np.floating):
        raise InputError(f"image {image_id}: score map holds {score_map.dtype}, must be floating point in [0, 1]")
    score_map = np.asarray(score_map, np.float64)
    low, high = score_map.min(), score_map.max()
    if not np.isfinite([low, high]).all():
        raise InputError(f"image {image_id}: score map holds NaN or infinity")
    if low < 0 or high > 1:
        raise InputError(f"image {image_id}: score map lies in [{low:.6g}, {high:.6g}], must lie in [0, 1]")
    return score_map
