"""How many classes a data set has and what they are called."""

import collections
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from fcam_jax.data.layouts.problems import Problems, listed


def settle_names(
    names: Sequence[str], num_classes: int, file: str | os.PathLike[str], problems: Problems
) -> tuple[int, tuple[str, ...] | None]:
    """The number of classes and their names, where the data set names its classes.

    Args:
      names: in the order of the labels.
      num_classes: that the user gave, 0 for as many as there are names. With more, no class has a name.
      file: that names them.
      problems: is told when there are more names than classes.

    Raises:
      InputError: there are more names than classes.
    """
    if not names:
        raise problems.stop(file, "names no classes")
    if 0 < num_classes < len(names):
        text = f"names {len(names)} classes ({listed(names)}), but data.num_classes is {num_classes}"
        raise problems.stop(file, text)
    return num_classes or len(names), tuple(names) if num_classes in (0, len(names)) else None


def folder_names(image_ids: Sequence[str], labels: Int[np.ndarray, " n"], num_classes: int) -> tuple[str, ...] | None:
    """Names of the classes by the folder that an id leads to, as in ``001.Albatross/1.jpg``.

    Args:
      image_ids: of the images.
      labels: of the same images, below `num_classes`; -1 where it is not known.
      num_classes: number of classes.

    Returns:
      None unless every class has images, all of them in one folder which no other class has.
    """
    folders: dict[int, set[str]] = collections.defaultdict(set)
    for image_id, label in zip(image_ids, labels.tolist(), strict=True):
        if label >= 0:
            folders[label].add(image_id.rpartition("/")[0].rpartition("/")[2])
    if len(folders) != num_classes or any(len(some) != 1 for some in folders.values()):
        return None
    names = tuple(min(folders[label]) for label in range(num_classes))
    return names if all(names) and len(set(names)) == num_classes else None
