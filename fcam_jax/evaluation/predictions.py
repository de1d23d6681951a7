"""Class predictions of another program: a text file with the predicted classes of each image, best first.

In: lines `image_id,c1,c2,...`. Out: the rank of each image's true class. Ids may hold commas; the classes are the whole
numbers at the end of a line.
"""

import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from fcam_jax.errors import InputError
from fcam_jax.runtime.files import open_text
from fcam_jax.runtime.text import listed

_LINE = re.compile(r"(.+?)((?:,\s*-?\d+)+)\s*")
_TOP = 5


def read_predictions(
    path: pathlib.Path, image_ids: Sequence[str], labels: Int[np.ndarray, " n"], num_classes: int | None
) -> tuple[Int[np.ndarray, " n"], bool]:
    """Read and check the predictions of a split; `num_classes` of None allows any class.

    Returns:
      How many classes stand before each image's true one, at least the list's length where it is not listed; and
      whether every list is long enough to tell if the true class is among the first five.

    Raises:
      InputError: for a line that cannot be read, an image that has no line, or two, or is not in the split, and a
        class that does not exist or stands in a line twice.
    """
    position = {image_id: index for index, image_id in enumerate(image_ids)}
    ranks = np.full(len(image_ids), -1, np.int64)
    settle_top5, unknown = True, []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        match = _LINE.fullmatch(line)
        if not match:
            raise InputError(f"{place}: expected an image id and class numbers, best first: {line[:80]!r}")
        image_id, classes = match[1], [int(number) for number in match[2][1:].split(",")]
        index = position.get(image_id)
        if index is None:
            unknown.append(image_id)
            continue
        if ranks[index] >= 0:
            raise InputError(f"{place}: {image_id} has a line already")
        _check_classes(place, classes, num_classes)
        found = labels[index] in classes
        ranks[index] = classes.index(labels[index]) if found else max(len(classes), _TOP)
        settle_top5 &= found or len(classes) >= _TOP
    if unknown:
        raise InputError(f"{path}: {len(unknown)} id(s) that the metadata does not have: {listed(unknown)}")
    missing = [image_id for image_id, rank in zip(image_ids, ranks, strict=True) if rank < 0]
    if missing:
        raise InputError(f"{path}: no line for {len(missing)} image(s): {listed(missing)}")
    return ranks, bool(settle_top5)


def _lines(path: pathlib.Path) -> Iterator[str]:
    """The lines one at a time: full rankings of a thousand classes are hundreds of megabytes."""
    try:
        with open_text(path) as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--predictions={path}: cannot be read as text: {error}") from error


def _check_classes(place: str, classes: Sequence[int], num_classes: int | None) -> None:
    if min(classes) < 0 or (num_classes is not None and max(classes) >= num_classes):
        limit = f"[0, {num_classes})" if num_classes is not None else "0 or above"
        wrong = min(classes) if min(classes) < 0 else max(classes)
        raise InputError(f"{place}: class {wrong} does not exist, classes are {limit}")
    if len(set(classes)) < len(classes):
        raise InputError(f"{place}: a class stands there twice")
