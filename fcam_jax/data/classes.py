"""The labels of a split in the numbering of a model, by the names of the classes: every data set counts for itself."""

import dataclasses
import importlib.resources
import logging
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from fcam_jax.data.source import Record, Source, Subset
from fcam_jax.errors import InputError
from fcam_jax.runtime.text import listed, printable, shorten

logger = logging.getLogger(__name__)

# By label; a class without a name is None or empty.
ClassNames = Sequence[str | None]

_LETTERS = 40  # of a name in a message


def imagenet_classes() -> list[str]:
    """What the 1000 classes of ImageNet (ILSVRC 2012) are called, in the order of pretrained networks' scores.

    Source: torchvision's names, `torchvision.models._meta._IMAGENET_CATEGORIES`.
    """
    path = importlib.resources.files("fcam_jax.data") / "imagenet_classes.txt"
    return path.read_text(encoding="utf-8").splitlines()


def same_name(name: str) -> str:
    """What names are compared by: as files of names hold them, with accents in one of their two forms."""
    return unicodedata.normalize("NFC", printable(name)).strip()


def described(names: Iterable[str | None]) -> str:
    """Classes for a message: the first few names and how many there are."""
    texts = [shorten(printable(name or "?"), _LETTERS) for name in names]
    return f"{len(texts)} ({listed(texts)})"


def matched(source: Source, names: ClassNames | None, classes: ClassNames, what: str) -> Source:
    """A split with its labels in the numbering of a model, by name where both sides have names, else by number.

    Args:
      source: the split.
      names: of its data set's classes.
      classes: of the model.
      what: what messages call the split.

    Raises:
      InputError: an image is of a class that the model does not have; a name stands for two classes.
    """
    names = names or ()
    if list(names) == list(classes):
        return source
    if any(names) and any(classes):
        numbers = _by_name(names, classes, what)
    else:
        numbers = np.where(np.arange(source.num_classes) < len(classes), np.arange(source.num_classes), -1)
        if any(names) or any(classes):
            side = "the model's have no names" if any(names) else "it has no names of them"
            logger.warning("%s: classes are matched by number, as %s", what, side)
    labels = np.unique(source.labels())
    strange = labels[numbers[labels] < 0].tolist()
    if strange:
        called = described([names[label] if any(names) else str(label) for label in strange])
        cure = "rename them in the data, or leave their images out"
        text = f"has images of classes that the model does not have: {called}; the model has {described(classes)}"
        raise InputError(f"{what} {text}; {cure}")
    if any(names) and len(labels) < len(classes):
        present = [classes[number] for number in sorted(numbers[labels].tolist())]
        logger.info("%s has images of %s of the model's %d classes", what, described(present), len(classes))
    return Renumbered(source, numbers, classes)


def differing(names: ClassNames, others: ClassNames) -> bool:
    """Whether two sides that both have names of their classes have different ones; the order counts."""
    return any(names) and any(others) and [same_name(n or "") for n in names] != [same_name(n or "") for n in others]


def _by_name(names: ClassNames, classes: ClassNames, what: str) -> Int[np.ndarray, " n"]:
    """The model's number of each class of the data, -1 where it has none."""
    there: dict[str, int] = {}
    twice: set[str] = set()
    for number, name in enumerate(classes):
        if name and there.setdefault(same_name(name), number) != number:
            twice.add(same_name(name))
    keys = [same_name(name or "") for name in names]
    twice |= {key for key in keys if key and keys.count(key) > 1}
    if hit := sorted(twice & set(keys)):
        text = f"classes cannot be matched by name, as two are called {shorten(hit[0], _LETTERS)!r}"
        raise InputError(f"{what}: {text}: it has {described(names)}, the model {described(classes)}")
    return np.array([there.get(key, -1) for key in keys])


class Renumbered(Subset):
    """The records of a source with other labels: `numbers` by the old ones, `classes` the names by the new ones."""

    def __init__(self, source: Source, numbers: Int[np.ndarray, " n"], classes: ClassNames):
        super().__init__(source, range(len(source)))
        self._numbers = numbers
        self.num_classes = len(classes)
        self.class_names = tuple(name or "" for name in classes) if any(classes) else None
        same = np.array_equal(numbers, np.arange(len(numbers)))
        self.fingerprint = source.fingerprint if same else f"{source.fingerprint}, labels {numbers.tolist()}"

    def labels(self) -> Int[np.ndarray, " n"]:
        """The new class of every record."""
        return self._numbers[super().labels()]

    def __getitem__(self, index: int) -> Record:
        record = super().__getitem__(index)
        return dataclasses.replace(record, label=int(self._numbers[record.label]))
