"""Which model of a stage is kept: the rule by which validation chooses, one model after the other."""

import math
from collections.abc import Mapping


def replaces(new: Mapping[str, float], kept: Mapping[str, float], highest: float, by: str, ties: str = "") -> bool:
    """Whether a model takes the place of the one that is kept.

    A model counts while its figure lies within the `noise` of the highest so far. Of those that count, the one with the
    highest figure `ties` is kept; of equal ones that with the higher figure, then the first. Only one is kept, so where
    it counts no longer, the one that has raised the highest figure takes its place.

    Args:
      new: validation figures of the model, in percent, and "images", of how many they are.
      kept: those of the one that is kept.
      highest: value of `by` so far, the new one included.
      by: the figure that chooses.
      ties: the figure that chooses within the noise; where it is empty or unknown, the first maximum is kept.
    """
    if ties not in new or ties not in kept:
        return new[by] > kept[by]
    least = highest - noise(highest, new.get("images", math.inf))
    return new[by] >= least and (kept[by] < least or (new[ties], new[by]) > (kept[ties], kept[by]))


def noise(percent: float, images: float) -> float:
    """One standard error of a share of so many images, 100 sqrt(p (1 - p) / n) with p = percent / 100, and never less
    than one image.
    """
    if not images:
        return 0.0
    one_image = 100 / images * (1 + 1e-6)  # figures are rounded
    return max(math.sqrt(max(percent * (100 - percent), 0.0) / images), one_image)
