"""What follows from curves and histograms: how far a threshold may be off, and what values the maps take, by which the
slides of the F-CAM paper motivate full-resolution maps.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Real

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


def _crossing(
    thresholds: Float[np.ndarray, " t"], accuracy: Float[np.ndarray, " t"], below: int, step: int, level: float
) -> float:
    """Where the line from a threshold below the level to its neighbour above crosses the level."""
    (x0, x1), (y0, y1) = thresholds[[below, below + step]], accuracy[[below, below + step]]
    return float(x0 + (x1 - x0) * (level - y0) / (y1 - y0))
