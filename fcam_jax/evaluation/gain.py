"""What one method gains over another on the same images, and whether that is more than those images' chance."""

import dataclasses

from fcam_jax.evaluation.bootstrap import interval
from fcam_jax.evaluation.metrics import localizing
from fcam_jax.evaluation.result import Evaluation


@dataclasses.dataclass(frozen=True)
class Gain:
    """A difference of two methods on the images of a split."""

    figure: str  # that says best how well maps localize: MaxBoxAcc, with masks alone PxAP
    points: float  # of percent
    interval_95: tuple[float, float]  # of the difference, image by image; lower and upper end
    better: bool  # whether all of the interval lies above 0

    def __str__(self) -> str:
        """The figure with its interval, for people."""
        return "{} {:+.1f} (95 % interval {:+.1f} to {:+.1f})".format(self.figure, self.points, *self.interval_95)


def gain(old: Evaluation, new: Evaluation) -> Gain | None:
    """The gain of the second method over the first; None where it is not known: without places, or without bootstrap.

    $$ g_r = figure_r(new) - figure_r(old) $$

    In a replicate r of the bootstrap each image counts equally often for both methods, so what makes an image easy or
    hard for both cancels.
    """
    figure = localizing(old.replicates.keys() & new.replicates.keys())
    if not figure:
        return None
    low, high = interval(new.replicates[figure] - old.replicates[figure])
    return Gain(figure, float(new.metrics[figure] - old.metrics[figure]), (low, high), bool(low > 0))
