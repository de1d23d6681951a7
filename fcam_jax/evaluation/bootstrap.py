"""Confidence intervals of every figure by the Poisson bootstrap: a split's chance composition, from counts alone.

In each replicate of the split an image counts as many times as a Poisson variable of mean 1 says, drawn from the seed
and the image's position. So images need no second visit, parts of a split (threads, hosts) are merged by adding their
counts, and memory does not grow with the number of images.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from fcam_jax.errors import InputError
from fcam_jax.evaluation.metric import Metric, Totals

_TOGETHER = 256  # images whose counts are weighted by one matrix product
_QUANTILES = (2.5, 97.5)


class Bootstrap:
    """Replicates of a split's metrics.

    $$ counts_r = \\sum_i w_{ri} counts_i, \\quad w_{ri} \\sim Poisson(1) $$

    Reference: Chamandy et al., Estimating uncertainty for massive data streams, 2012; Hanley and MacGibbon, Creating
    non-parametric bootstrap samples using Poisson frequencies, 2006.
    """

    def __init__(self, replicates: int, seed: int = 0) -> None:
        """A bootstrap of no image; 1,000 replicates give an interval's ends within a few percent of its width."""
        self._replicates, self._seed = replicates, seed
        self._steps: dict[type[Metric], float] = {}
        # Whole numbers in floating point, exact below 2^53, so that products are added in place.
        self._sums: dict[tuple[type[Metric], str], np.ndarray] = {}
        self._waiting: list[tuple[int, Sequence[Metric]]] = []

    def add(self, position: int, metrics: Sequence[Metric]) -> None:
        """Add the image at a position of the split, by its metrics: those that its ground truth allows."""
        self._waiting.append((position, metrics))
        if len(self._waiting) == _TOGETHER:
            self._work_off()

    def merge(self, other: "Bootstrap") -> None:
        """Add another part of the split, with as many replicates by the same seed."""
        if (self._replicates, self._seed) != (other._replicates, other._seed):
            raise InputError("bootstraps with different numbers of replicates or seeds cannot be merged")
        other._work_off()
        self._steps |= other._steps
        for key, sums in other._sums.items():
            self._sums[key] = self._sums.get(key, 0) + sums

    def replicates(self) -> Iterator[Totals]:
        """The metrics of every replicate."""
        self._work_off()
        for r in range(self._replicates):
            counts: dict[type[Metric], dict[str, np.ndarray]] = {}
            for (kind, name), sums in self._sums.items():
                counts.setdefault(kind, {})[name] = np.asarray(sums[r], np.int64)
            yield {kind: kind(self._steps[kind], of) for kind, of in counts.items()}

    def figures(self, of: Callable[[Totals], dict[str, float]]) -> dict[str, Float[np.ndarray, " r"]]:
        """Figures of every replicate by name, NaN where it has none; maxima over thresholds are taken anew in each.

        Raises InputError: no image was added.
        """
        found: list[dict[str, float]] = []
        for totals in self.replicates():
            found.append({})
            # A replicate of a handful of images may hold none of them, or none with a foreground pixel.
            with contextlib.suppress(InputError):
                found[-1] = of(totals) if totals else {}
        if not any(found):
            raise InputError("bootstrap of no image: the evaluated split is empty")
        names = dict.fromkeys(name for one in found for name in one)  # one without a hit has no threshold
        return {name: np.array([one.get(name, np.nan) for one in found]) for name in names}

    def _work_off(self) -> None:
        measured: dict[type[Metric], list[tuple[int, Metric]]] = {}
        for position, metrics in self._waiting:
            for metric in metrics:
                measured.setdefault(type(metric), []).append((position, metric))
        drawn = {
            position: np.random.default_rng((self._seed, position)).poisson(1.0, self._replicates)
            for position, _ in self._waiting
        }
        for kind, images in measured.items():
            self._steps[kind] = images[0][1].step
            weights = np.stack([drawn[position] for position, _ in images], axis=1)
            for name in images[0][1].counts:
                sums = _weighted(weights, np.stack([metric.counts[name] for _, metric in images]))
                if (kind, name) in self._sums:
                    self._sums[kind, name] += sums
                else:
                    self._sums[kind, name] = sums.astype(np.float64)
        self._waiting = []


def interval(replicates: Float[np.ndarray, " r"]) -> tuple[float, float]:
    """Ends of the 95 % percentile interval of a figure from those of the replicates that have it."""
    low, high = np.percentile(replicates[np.isfinite(replicates)], _QUANTILES)
    return float(low), float(high)


def _weighted(weights: Int[np.ndarray, "r i"], counts: Int[np.ndarray, "i ..."]) -> Float[np.ndarray, "r ..."]:
    """Counts of all replicates as whole numbers, in the narrowest floating-point type that holds them exactly."""
    largest = int(counts.max()) * int(weights.sum(axis=1).max())
    kind = np.float32 if largest < 2**24 else np.float64
    product = weights.astype(kind) @ counts.reshape(len(counts), -1).astype(kind)
    return product.reshape(len(weights), *counts.shape[1:])
