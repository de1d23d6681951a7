"""The contract between a data set and the pipeline: numbered records, each an image with what is known of it.

A source is random access and thread safe; it neither shuffles nor transforms. Everything here is in stored pixels;
`transforms` brings it to the frame of the score maps.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, UInt8

from fcam_jax.errors import InputError

SPLITS = ("train", "val", "test")
TRUTH = ("boxes", "mask")  # fields of a `Record` that say where its object is


@dataclasses.dataclass(frozen=True)
class Record:
    """One image with what is known of it, in the image's own pixels.

    Attributes:
      image: RGB in [0, 255].
      label: its class, from 0.
      image_id: its key in the data set.
      boxes: corners ``x0, y0, x1, y1`` as in the localization text files, or None where there are none.
      mask: True on the object, or None where the data set has no masks; its resolution may differ from the image's.
      ignore: True where the mask is undecided, or None; again at its own resolution.
    """

    image: UInt8[np.ndarray, "h w 3"]
    label: int
    image_id: str
    boxes: Int[np.ndarray, "n 4"] | None = None
    mask: Bool[np.ndarray, "mask_h mask_w"] | None = None
    ignore: Bool[np.ndarray, "ignore_h ignore_w"] | None = None


@runtime_checkable
class Source(Protocol):
    """Random access to the records of one split, from several threads at once.

    Attributes:
      num_classes: labels are in [0, num_classes).
      class_names: what the classes are called, in the order of the labels, "" where that is not known; None: of none.
      truth: which of "boxes" and "mask" its records have, as evaluation needs them; those without any count for
        classification.
      left_out: what was wrong with each image that the split names and the source leaves out, one line each.
      fingerprint: tells the images and labels of one split from those of any other, by what they are called.
    """

    num_classes: int
    class_names: tuple[str, ...] | None
    truth: tuple[str, ...]
    left_out: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        """The number of records."""
        ...

    def __getitem__(self, index: int) -> Record:
        """The record at a position in [0, len). Raises InputError: its files cannot be used."""
        ...

    def labels(self) -> Int[np.ndarray, " n"]:
        """The class of every record, in their order; no image is decoded for it."""
        ...


@runtime_checkable
class DataSet(Protocol):
    """What `data.source` chooses: a frozen dataclass of settings, of which some may be those of `DataSettings`."""

    def splits(self) -> tuple[str, ...]:
        """Which of `SPLITS` there are. Raises InputError: the data set is not there."""
        ...

    def open(self, split: str) -> Source:
        """The records of a split. Raises InputError: it is not there, or cannot be used."""
        ...


def needs_root(root: str) -> None:
    """Refuse an empty `root`."""
    if not root:
        raise InputError("root is empty; give the folder that holds the data set")


def fingerprint(ids: Iterable[str], labels: Iterable[int]) -> str:
    """Checksum of the ids of images and their labels, in this order."""
    lines = "".join(f"{image_id},{int(label)}\n" for image_id, label in zip(ids, labels, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


class Subset:
    """The records of a source at some positions, in their order."""

    def __init__(self, source: Source, positions: Sequence[int]):
        self._source, self._positions = source, np.asarray(positions, np.int64)
        self.num_classes, self.class_names = source.num_classes, source.class_names
        self.truth, self.left_out = source.truth, source.left_out
        chosen = hashlib.sha256(self._positions.tobytes()).hexdigest()
        self.fingerprint = f"{source.fingerprint}, of these {chosen}"

    def labels(self) -> Int[np.ndarray, " n"]:
        """The class of every record that is kept."""
        return self._source.labels()[self._positions]

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> Record:
        return self._source[int(self._positions[index])]


class Retold:
    """The records of a source with ground truth that another program has found, in the place of their own.

    Args:
      source: gives images and labels.
      told: a record with the new ground truth, from the one of the source. Raises InputError: there is none of it.
      truth: which of `TRUTH` it has.
      origin: tells it from any other, for the fingerprint.
    """

    def __init__(self, source: Source, told: Callable[[Record], Record], truth: str, origin: str):
        self._source, self._told = source, told
        self.truth: tuple[str, ...] = (truth,)
        self.num_classes, self.class_names, self.left_out = source.num_classes, source.class_names, source.left_out
        self.fingerprint = f"{source.fingerprint}, {truth} of {origin}"

    def labels(self) -> Int[np.ndarray, " n"]:
        """The class of every record."""
        return self._source.labels()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        return self._told(self._source[index])


def share(source: Source, fraction: float, seed: int) -> Source:
    """A share in (0, 1] of the images of every class, rounded and at least one; the source itself where it is 1."""
    return source if fraction == 1 else _of_each_class(source, lambda count: max(1, round(fraction * count)), seed)


def few(source: Source, per_class: int, seed: int) -> Source:
    """So many images of every class, at least one, or all where a class has fewer."""
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
