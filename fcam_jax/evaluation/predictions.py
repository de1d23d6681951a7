"""Class predictions of another program: a text file with the predicted classes of each image, best first.

In: lines `image_id,c1,c2,...`, ids with or without commas, classes by number or, in quotes where they have commas, by
name. Out: the rank of each image's true class.
"""

import csv
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from fcam_jax.errors import InputError
from fcam_jax.runtime.files import open_text
from fcam_jax.runtime.text import listed

_TOP = 5


def read_predictions(
    path: pathlib.Path,
    image_ids: Sequence[str],
    labels: Int[np.ndarray, " n"],
    num_classes: int | None,
    names: Sequence[str | None] = (),
) -> tuple[Int[np.ndarray, " n"], bool, list[str]]:
    """Read and check the predictions of a split: its images, their labels, number (None: any) and names of the classes.

    Returns:
      How many classes stand before each image's true one, at least the list's length where it is not listed; whether
      the lists tell of each image whether its class is among the first five; and warnings.

    Raises:
      InputError: for a line that cannot be read, an image that has no line, or two, or is not in the split, and a
        class that does not exist or stands in a line twice; where some lines have numbers and some have names.
    """
    position = {image_id: index for index, image_id in enumerate(image_ids)}
    by_name = {name: label for label, name in enumerate(names) if name}
    ranks = np.full(len(image_ids), -1, np.int64)
    complete, unknown, seen = True, [], set[int]()
    first_of: dict[bool, str] = {}  # the first line with names, and the first with numbers
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        image_id, texts = _divided(line.strip(), place, position, by_name)
        index = position.get(image_id)
        if index is None:
            unknown.append(image_id)
            continue
        if ranks[index] >= 0:
            raise InputError(f"{place}: {image_id} has a line already")
        named = all(text in by_name for text in texts)
        first_of.setdefault(named, place)
        if len(first_of) == 2:
            raise InputError(f"{first_of[True]} has names of classes, but {first_of[False]} numbers; give all by one")
        classes = [by_name[text] if named else int(text) for text in texts]
        for wrong in classes:
            if wrong < 0 or (num_classes is not None and wrong >= num_classes):
                limit = "0 or above" if num_classes is None else f"[0, {num_classes})"
                raise InputError(f"{place}: class {wrong} does not exist, classes are {limit}")
        if len(set(classes)) < len(classes):
            raise InputError(f"{place}: a class stands there twice")
        seen.update(classes)
        found = labels[index] in classes
        ranks[index] = classes.index(labels[index]) if found else max(len(classes), _TOP)
        complete &= bool(found or len(classes) >= _TOP)
    if unknown:
        raise InputError(f"{path}: {len(unknown)} id(s) that the metadata does not have: {listed(unknown)}")
    missing = [image_ids[index] for index in np.flatnonzero(ranks < 0).tolist()]
    if missing:
        raise InputError(f"{path}: no line for {len(missing)} image(s): {listed(missing)}")
    warnings = []
    if not complete:
        warnings.append(f"{path}: lists of fewer than five classes without the true one; no top-5 figures")
    if 0 in labels and min(seen) == 1 and max(seen) == labels.max() + 1:
        warnings.append(f"{path}: classes are 1 to {max(seen)}, but labels 0 to {labels.max()}; both count from 0")
    return ranks, complete, warnings


def _divided(line: str, place: str, position: Mapping[str, int], by_name: Mapping[str, int]) -> tuple[str, list[str]]:
    """The image's id and the classes of a line, which are all names or all numbers."""
    numbers = re.search(r"(?:,\s*-?[0-9]{1,9})+$", line)
    if numbers and line[: numbers.start()] in position:
        return line[: numbers.start()], [text.strip() for text in numbers[0][1:].split(",")]
    fields = next(csv.reader([line]))
    starts = range(1, len(fields))
    first = next((i for i in starts if ",".join(fields[:i]) in position), 1 if len(fields) > 1 else 0)
    texts = [text.strip() for text in fields[first:]]
    odd = [text for text in texts if text not in by_name and not re.fullmatch("-?[0-9]{1,9}", text)]
    if odd and by_name and first:
        raise InputError(f"{place}: {odd[0]!r:.80} is the name of no class; they are {listed(list(by_name))}")
    if odd or not first:
        names = "" if by_name else "; to give names, say by --class_names what the classes are called"
        raise InputError(f"{place}: expected an image id and class numbers, best first: {line!r:.80}{names}")
    return ",".join(fields[:first]), texts


def _lines(path: pathlib.Path) -> Iterator[str]:
    """The lines one at a time: full rankings of a thousand classes are hundreds of megabytes."""
    try:
        with open_text(path) as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--predictions={path}: cannot be read as text: {error}") from error
