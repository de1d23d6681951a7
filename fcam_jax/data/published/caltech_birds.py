"""The stock TFDS data set caltech_birds2011 in the place of the protocol's CUB: its features and a validation split.

It has no CUBV2. `val` is made of the last five images of each class of the official training split, by file name.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fcam_jax.data.images import decode_image
from fcam_jax.data.layouts.labels import folder_names
from fcam_jax.data.published.identity import Identity
from fcam_jax.data.source import Record, fingerprint

NAME = "caltech_birds2011"
VERSION = "0.2.0"
# Which stored split each of ours is made of.
STORED_IN = {"train": "train", "val": "train", "test": "test"}
HELD_OUT = 5  # images of each class


def select(examples: Iterable[Mapping[str, Any]], split: str, num_classes: int) -> tuple[list[int], Identity]:
    """The examples of a split in the order of their ids, and what is known of them.

    Args:
      examples: of the stored split.
      split: which of ours.
      num_classes: number of classes.

    Returns:
      Positions of the examples, and the split's identity.
    """
    known = sorted((_image_id(example), int(example["label"]), i) for i, example in enumerate(examples))
    if split != "test":
        held_out = _last(known)
        known = [entry for entry in known if (entry in held_out) == (split == "val")]
    image_ids = [image_id for image_id, _, _ in known]
    labels = np.array([label for _, label, _ in known])
    names = folder_names(image_ids, labels, num_classes)
    return [i for _, _, i in known], Identity(fingerprint(image_ids, labels.tolist()), names, True, ())


def record(example: Mapping[str, Any], place: str) -> Record:
    """The record of an example; its box, stored as shares of the image's sides, in whole pixels."""
    image_id = _image_id(example)
    image = decode_image(example["image"], f"{place} ({image_id})", trusted=True)
    height, width = image.shape[:2]
    ymin, xmin, ymax, xmax = np.asarray(example["bbox"], np.float64)
    box = np.rint([xmin * width, ymin * height, xmax * width, ymax * height]).astype(np.int32)
    return Record(image, int(example["label"]), image_id, box[None])


def _image_id(example: Mapping[str, Any]) -> str:
    """Folder and name of the file, as in the metadata of the protocol."""
    return "/".join(example["image/filename"].decode().split("/")[-2:])


def _last(known: Sequence[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
    """The last entries of each class."""
    by_class: dict[int, list[tuple[str, int, int]]] = {}
    for entry in known:
        by_class.setdefault(entry[1], []).append(entry)
    return {entry for entries in by_class.values() for entry in entries[-HELD_OUT:]}
