"""What follows from curves, histograms and masks: how far a threshold may be off, what values the maps take, and what
low resolution alone costs, by which the slides of the F-CAM paper motivate full-resolution maps.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from jaxtyping import Float, Real

from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.types import Annotation

FACTORS = (1, 2, 4, 8, 16, 32)
# The protocol's has 1,000; a few of them tell the areas apart as well.
_THRESHOLD_STEP = 0.01
_HIGH, _MIDDLE = 0.9, (0.4, 0.6)
# Of the second mode, see `activation_shape`.
_FIRST_UP_TO, _SECOND_ABOVE, _SMOOTHED, _RISE, _MOST = 0.5, 0.8, 9, 1.5, 1000.0


@dataclasses.dataclass(frozen=True)
class Plateau:
    """The thresholds that serve nearly as well as the best one."""

    threshold: float  # the best one, the first of equals
    low: float  # lower end
    high: float  # upper end

    @property
    def width(self) -> float:
        """The interval's width, in units of the threshold: shares of the map's maximum."""
        return self.high - self.low


@dataclasses.dataclass(frozen=True)
class ActivationShape:
    """What values the pixels of maps take."""

    high: float  # percent of the pixels with a value of 0.9 or more
    middle: float  # percent with a value from 0.4 to below 0.6
    rise: float  # of the lower of the two modes above the valley between them, a factor up to 1000; 1 without two modes

    @property
    def second_mode(self) -> bool:
        """Whether there is a mode near 1 besides the one of low values: the rise is 1.5 or more."""
        return self.rise >= _RISE


def plateau(thresholds: Float[np.ndarray, " t"], accuracy: Float[np.ndarray, " t"], drop: float = 5.0) -> Plateau:
    """The interval around the best threshold in which accuracy stays within some points of its maximum.

    $$ [a, b] \\ni \\arg\\max_t A(t), \\quad A(t) \\ge \\max A - drop \\; \\text{for all} \\; t \\in [a, b] $$

    and the widest such. Between two thresholds the curve is taken for a straight line; it ends with the first and the
    last threshold, and so does the interval. A triangle of height h over a base of width w has one of drop w / h.
    Thresholds rise, accuracies and the drop are in percent.
    """
    best = int(accuracy.argmax())
    level = float(accuracy[best]) - drop
    below = np.flatnonzero(accuracy < level)
    left, right = below[below < best][-1:], below[below > best][:1]
    low = _crossing(thresholds, accuracy, int(left[0]), 1, level) if len(left) else float(thresholds[0])
    high = _crossing(thresholds, accuracy, int(right[0]), -1, level) if len(right) else float(thresholds[-1])
    return Plateau(float(thresholds[best]), low, high)


def activation_shape(counts: Real[np.ndarray, " n"]) -> ActivationShape:
    """Shares of high and of middling values, and whether there is a second mode near 1.

    A bin counts by its centre. For the modes the histogram is smoothed to h, the mean of 9 bins around each, of as many
    as there are at the ends. With a the bin of the largest h up to 0.5 and b that above 0.8,

    $$ rise = \\min(h_a, h_b) / \\min_{a \\le i \\le b} h_i $$

    so a histogram that falls all the way to 1, or has one hill anywhere, has a rise of 1. Values near 1 are a second
    mode if both hills are 1.5 times as high as the valley between them, or higher.
    Bins are equal, from low to high.
    """
    shares = counts / max(float(counts.sum()), np.finfo(float).tiny)
    centres = (np.arange(len(counts)) + 0.5) / len(counts)
    window = np.ones(_SMOOTHED)
    smooth = np.convolve(shares, window, "same") / np.convolve(np.ones(len(counts)), window, "same")
    first = int(np.where(centres <= _FIRST_UP_TO, smooth, -1).argmax())
    second = int(np.where(centres > _SECOND_ABOVE, smooth, -1).argmax())
    lower, valley = min(smooth[first], smooth[second]), smooth[first : second + 1].min()
    rise = lower / max(valley, lower / _MOST) if lower > 0 else 1.0
    return ActivationShape(
        high=float(100 * shares[centres >= _HIGH].sum()),
        middle=float(100 * shares[(centres >= _MIDDLE[0]) & (centres < _MIDDLE[1])].sum()),
        rise=float(rise),
    )


def pxap_by_factor(truths: Iterable[Annotation], factors: Sequence[int] = FACTORS) -> list[float]:
    """PxAP in percent of perfect maps whose side is reduced by factors; all have masks, some one with foreground."""
    totals = [PixelPrecision(_THRESHOLD_STEP) for _ in factors]
    for truth in truths:
        assert truth.mask is not None
        perfect = truth.mask.astype(np.float64)
        maps = (reduced_and_enlarged(perfect, factor) for factor in factors)
        totals = [total.update(score_map, truth) for total, score_map in zip(totals, maps, strict=True)]
    return [total.compute()["PxAP"] for total in totals]


def reduced_and_enlarged(score_map: Float[np.ndarray, "h w"], factor: int) -> Float[np.ndarray, "h w"]:
    """The map as means of cells of `factor` by `factor` pixels, enlarged bilinearly."""
    height, width = score_map.shape
    cells = max(1, round(width / factor)), max(1, round(height / factor))
    low = cv2.resize(score_map, cells, interpolation=cv2.INTER_AREA)
    return np.clip(cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)


def _crossing(
    thresholds: Float[np.ndarray, " t"], accuracy: Float[np.ndarray, " t"], below: int, step: int, level: float
) -> float:
    """Where the line from a threshold below the level to its neighbour above crosses the level."""
    (x0, x1), (y0, y1) = thresholds[[below, below + step]], accuracy[[below, below + step]]
    return float(x0 + (x1 - x0) * (level - y0) / (y1 - y0))
