"""Some images of a split in the place of all: a share of every class, or a few of every class.

In: a `Source`. Out: a `Source` of the same records; which ones depends on the labels and a seed alone.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from fcam_jax.data.source import Record, Source


class Subset:
    """The records of a source at some positions."""

    def __init__(self, source: Source, positions: Sequence[int]):
        """Nothing is read.

        Args:
          source: all records.
          positions: of those to keep, in the order that they get.
        """
        self._source = source
        self._positions = np.asarray(positions, np.int64)
        self.num_classes = source.num_classes
        self.class_names = source.class_names
        self.truth = source.truth
        self.left_out = source.left_out
        chosen = hashlib.sha256(self._positions.tobytes()).hexdigest()
        self.fingerprint = f"{source.fingerprint}, of these {chosen}"

    def labels(self) -> Int[np.ndarray, " n"]:
        """The class of every record that is kept."""
        return self._source.labels()[self._positions]

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> Record:
        return self._source[int(self._positions[index])]


def share(source: Source, fraction: float, seed: int) -> Source:
    """A share of the images of every class, rounded and at least one; the source itself where the share is 1.

    Args:
      source: all images.
      fraction: in (0, 1].
      seed: of the choice.
    """
    return source if fraction == 1 else _of_each_class(source, lambda count: max(1, round(fraction * count)), seed)


def few(source: Source, per_class: int, seed: int) -> Source:
    """So many images of every class, or all where a class has fewer.

    Args:
      source: all images.
      per_class: their number, above 0.
      seed: of the choice.
    """
    return _of_each_class(source, lambda count: min(per_class, count), seed)


def _of_each_class(source: Source, wanted: Callable[[int], int], seed: int) -> Subset:
    """As many images of each class as are wanted of its number, in the split's order."""
    labels = source.labels()
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen.append(rng.permutation(members)[: wanted(len(members))])
    return Subset(source, np.sort(np.concatenate(chosen)).tolist())
