"""Confidence intervals of every figure by the Poisson bootstrap: a split's chance composition, from counts alone.

In: the metrics of each image; out: intervals. In each replicate of the split an image counts as many times as a Poisson
variable of mean 1 says, drawn from the seed and the image's position. So images need no second visit, parts of a split
(threads, hosts) are merged by adding their counts, and memory does not grow with the number of images.
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
        self._kinds: dict[type[Metric], float] = {}
        # Whole numbers in floating point, exact below 2^53, so that products are added in place.
        self._sums: dict[tuple[type[Metric], str], np.ndarray] = {}
        self._waiting: list[tuple[int, Sequence[Metric]]] = []

    def add(self, position: int, metrics: Sequence[Metric]) -> None:
        """Add the image at a position of the split, by its metrics: those that its ground truth allows."""
        self._waiting.append((position, metrics))
        if len(self._waiting) == _TOGETHER:
            self._work_off()

    def merge(self, other: "Bootstrap") -> None:
        """Add another part of the split.

        Raises:
          InputError: the two have different replicates.
        """
        if (self._replicates, self._seed) != (other._replicates, other._seed):
            raise InputError("bootstraps with different numbers of replicates or seeds cannot be merged")
        self._work_off()
        other._work_off()
        self._kinds |= other._kinds
        for key, sums in other._sums.items():
            self._add(key, sums)

    def replicates(self) -> Iterator[Totals]:
        """The metrics of every replicate."""
        self._work_off()
        for r in range(self._replicates):
            counts: dict[type[Metric], dict[str, np.ndarray]] = {}
            for (kind, name), sums in self._sums.items():
                counts.setdefault(kind, {})[name] = np.asarray(sums[r], np.int64)
            yield {kind: kind(self._kinds[kind], of) for kind, of in counts.items()}

    def figures(self, of: Callable[[Totals], dict[str, float]]) -> dict[str, Float[np.ndarray, " r"]]:
        """Figures of every replicate by name, NaN where it has none; maxima over thresholds are taken anew in each.

        Raises:
          InputError: no image was added.
        """
        self._work_off()
        found: list[dict[str, float]] = []
        for totals in self.replicates() if self._kinds else ():
            found.append({})
            # A replicate of a handful of images may hold none of them, or none with a foreground pixel.
            with contextlib.suppress(InputError):
                found[-1] = of(totals)
        if not any(found):
            raise InputError("bootstrap of no image: the evaluated split is empty")
        names = dict.fromkeys(name for one in found for name in one)  # one without a hit has no threshold
        return {name: np.array([one.get(name, np.nan) for one in found]) for name in names}

    def _work_off(self) -> None:
        if not self._waiting:
            return
        weights = np.stack([self._weights(position) for position, _ in self._waiting], axis=1)
        measured: dict[type[Metric], tuple[list[int], list[Metric]]] = {}
        for column, (_, metrics) in enumerate(self._waiting):
            for metric in metrics:
                columns, same = measured.setdefault(type(metric), ([], []))
                columns.append(column)
                same.append(metric)
        for kind, (columns, same) in measured.items():
            self._kinds[kind] = same[0].step
            of_kind = weights[:, columns]
            for name in same[0].counts:
                self._add((kind, name), _weighted(of_kind, np.stack([metric.counts[name] for metric in same])))
        self._waiting = []

    def _add(self, key: tuple[type[Metric], str], sums: np.ndarray) -> None:
        if key in self._sums:
            self._sums[key] += sums
        else:
            self._sums[key] = sums.astype(np.float64)

    def _weights(self, position: int) -> Int[np.ndarray, " r"]:
        return np.random.default_rng((self._seed, position)).poisson(1.0, self._replicates)


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
