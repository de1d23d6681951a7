"""What is known of a split without its images: what tells it from others, and what its classes are called."""

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class Identity:
    """The attributes of a `Source` of these names, as they are stored beside prepared data."""

    fingerprint: str
    class_names: tuple[str, ...] | None
    localized: bool
    left_out: tuple[str, ...]


def fingerprint(image_ids: Iterable[str], labels: Int[np.ndarray, " n"]) -> str:
    """SHA-256 of the lines ``id,label`` in the order of the images."""
    lines = (f"{image_id},{label}\n" for image_id, label in zip(image_ids, labels.tolist(), strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def folder_names(image_ids: Iterable[str], labels: Int[np.ndarray, " n"], num_classes: int) -> tuple[str, ...] | None:
    """Names of the classes by the folders of their images.

    Args:
      image_ids: paths; an image's folder is the last one of its path.
      labels: class of each image, from 0.
      num_classes: how many there must be.

    Returns:
      A name for each class, or None unless every class has one folder, and one of its own.
    """
    pairs = {
        (label, image_id.rpartition("/")[0].rpartition("/")[2])
        for image_id, label in zip(image_ids, labels.tolist(), strict=True)
    }
    names = dict(pairs)
    if not len(pairs) == len(names) == len(set(names.values())) == num_classes or not all(names.values()):
        return None
    return tuple(names[label] for label in range(num_classes))
