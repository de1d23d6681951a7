"""A data set described by one file, `manifest.csv` or `manifest.jsonl`, with a row for each image.

In: the rows. Out: `Metadata` of a split. `docs/data/own.md` says what the columns mean.
"""

import collections
import dataclasses
import pathlib
import re
import reprlib
from typing import Any

import numpy as np
from jaxtyping import Int

from fcam_jax.data.layouts.manifest_file import NAMES, manifest_file, read_rows
from fcam_jax.data.layouts.metadata import (
    BOX_RULE,
    Layout,
    Masks,
    Metadata,
    Place,
    fitting,
    folder_names,
    grouped,
    settle_names,
)
from fcam_jax.data.layouts.paths import refused
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.regions import Region, parse_runs
from fcam_jax.data.source import SPLITS

_WANTED = {"label": "an integer or a name"}
_NO_MASKS = Masks()
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclasses.dataclass(slots=True)  # neither frozen nor with a dictionary: there may be a million
class _Row:
    """A row of the split that is read."""

    line: int
    image_id: str
    path: str
    label: Any
    size: tuple[int, int]
    boxes: list[list[int]]
    masks: Masks
    checksum: str

    def error(self, path: pathlib.Path, text: str, problems: Problems, between: str = ": ") -> None:
        """An error of this image."""
        problems.error(path, f"{self.image_id}{between}{text}", line=self.line, image_id=self.image_id)


def splits(folder: pathlib.Path) -> tuple[str, ...]:
    """The splits that a folder's manifest has; none without a manifest.

    Raises:
      InputError: the manifest cannot be read.
    """
    path = manifest_file(folder)
    found = {str(row.get("split", "train")) for _, row in read_rows(path, Problems())} if path else ()
    return tuple(split for split in SPLITS if split in found)


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split; `problems` is told of values that are none of their column.

    Raises:
      InputError: the file cannot be read, or has other columns, or no such split, or names more classes.
    """
    path = manifest_file(place.metadata)
    if path is None:
        raise problems.stop(place.metadata, f"has neither {' nor '.join(NAMES)}")
    rows: list[_Row] = []
    labels: collections.Counter[Any] = collections.Counter()  # of all splits
    class_names: dict[Any, str] = {}
    seen: set[str] = set()
    for line, values in read_rows(path, problems):
        values.setdefault("split", "train")
        image_id = str(values.get("image_id") or values.get("path") or f"line {line}")
        try:
            if str(values["split"]) not in SPLITS:
                raise ValueError(f"unknown split {reprlib.repr(values['split'])}; known: {', '.join(SPLITS)}")
            seen.add(values["split"])
            label = _label(values)
            labels[label] += 1
            if "class_name" in values and class_names.setdefault(label, values["class_name"]) != values["class_name"]:
                raise ValueError(f"label {label} is {class_names[label]!r} in a line above")
            if values["split"] == split:
                rows.append(_row(line, label, values))
        except ValueError as error:
            if values["split"] == split or str(values["split"]) not in SPLITS:
                problems.error(path, f"{image_id}: {error}", line=line, image_id=image_id)
    if not rows:
        problems.raise_first()
        found = ", ".join(name for name in SPLITS if name in seen)
        raise problems.stop(path, f"has no split {split!r}; it has: {found or 'no image'}")
    return _metadata(path, _usable(rows, path, problems), labels, class_names, num_classes, problems)


def _metadata(
    path: pathlib.Path,
    rows: list[_Row],
    labels: collections.Counter[Any],
    class_names: dict[Any, str],
    num_classes: int,
    problems: Problems,
) -> Metadata:
    integers = sum(count for label, count in labels.items() if isinstance(label, int))
    numbered = 2 * integers >= labels.total()  # of two kinds, the rarer one is the mistake
    names: tuple[str, ...] | None
    known: dict[str, int] = {}
    if numbered:
        count = num_classes or 1 + max(label for label in labels if isinstance(label, int))
        told = class_names and (num_classes or len(class_names) == count)
        names = tuple(class_names.get(label, "") for label in range(count)) if told else None
    else:
        ordered = sorted(label for label in labels if isinstance(label, str))
        count, names = settle_names(ordered, num_classes, path, problems)
        known = {name: position for position, name in enumerate(ordered)}
    values = np.full(len(rows), -1, np.int32)
    for position, row in enumerate(rows):
        if isinstance(row.label, int) != numbered:
            others = "integers" if numbered else "names"
            row.error(path, f"label {reprlib.repr(row.label)}, but most labels are {others}", problems)
        elif numbered and not 0 <= row.label < count:
            row.error(path, f"label must be in [0, {count}), by data.num_classes: {row.label}", problems)
        else:
            values[position] = row.label if numbered else known[row.label]
    sizes = np.array([row.size for row in rows], np.int32)
    masks = [row.masks for row in rows]
    checksums = [row.checksum for row in rows]
    image_ids = [row.image_id for row in rows]
    return Metadata(
        image_ids=image_ids,
        labels=values,
        sizes=sizes if sizes.any() else None,
        boxes=_boxes(path, rows, sizes, problems),
        masks=masks if any(some.instances or some.ignore for some in masks) else None,
        num_classes=count,
        paths=[row.path for row in rows],
        checksums=checksums if any(checksums) else None,
        class_names=names or folder_names(image_ids, values, count),
    )


def _boxes(
    path: pathlib.Path, rows: list[_Row], sizes: Int[np.ndarray, "n 2"], problems: Problems
) -> list[Int[np.ndarray, "_ 4"]] | None:
    flat = [box for row in rows for box in row.boxes]
    if not flat:
        return None
    owners = np.repeat(np.arange(len(rows)), [len(row.boxes) for row in rows])
    boxes = np.array(flat, np.int32)
    fits = fitting(boxes, sizes[owners])
    for box in np.flatnonzero(~fits).tolist():
        rows[owners[box]].error(path, f"{BOX_RULE}: {flat[box]}", problems)
    return grouped(boxes[fits], owners[fits], len(rows))


def _usable(rows: list[_Row], path: pathlib.Path, problems: Problems) -> list[_Row]:
    """The first row of each image; paths that may not be opened are told."""
    by_id: dict[str, _Row] = {}
    for row in rows:
        if by_id.setdefault(row.image_id, row) is not row:
            row.error(path, "is there more than once", problems, between=" ")
    reasons = refused(name for row in by_id.values() for name in (row.path, *row.masks.files()))
    for row in by_id.values() if reasons else ():
        for name in (row.path, *row.masks.files()):
            if name in reasons:
                row.error(path, f"{reasons[name]}: {name}", problems)
    return list(by_id.values())


def _row(line: int, label: Any, values: dict[str, Any]) -> _Row:
    """A row's values.

    Raises:
      ValueError: one is none of its column; the message says which.
    """
    path = _text(values, "path")
    if not path:
        raise ValueError("no path")
    given = values.get("mask", [])
    masks = given if isinstance(given, list) else [given]
    instances = tuple(_mask("mask", mask) for mask in masks)
    ignored = (_mask("ignore", values["ignore"]),) if "ignore" in values else ()
    checksum = _text(values, "sha256").lower()
    if checksum and not _SHA256.fullmatch(checksum):
        raise ValueError(f"sha256 must have 64 hexadecimal digits: {reprlib.repr(checksum)}")
    return _Row(
        line=line,
        image_id=_text(values, "image_id") or path,
        path=path,
        label=label,
        size=_size(values),
        boxes=_corners(values.get("boxes", [])),
        masks=Masks(instances, ignored) if instances or ignored else _NO_MASKS,
        checksum=checksum,
    )


def _text(values: dict[str, Any], column: str) -> str:
    value = values.get(column, "")
    if not isinstance(value, str):
        raise ValueError(f"{column} must be {_WANTED.get(column, 'a text')}: {reprlib.repr(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{column} is not valid Unicode: {reprlib.repr(value)}") from None
    return value


def _label(values: dict[str, Any]) -> Any:
    label = values.get("label", "")
    if label == "":
        raise ValueError("no label")
    if not _is_integer(label):
        label = _text(values, "label")
    if "class_name" in values and not (isinstance(label, int) and _text(values, "class_name")):
        raise ValueError("class_name must be a text beside a label that is an integer")
    return label


def _size(values: dict[str, Any]) -> tuple[int, int]:
    size = (values.get("width", 0), values.get("height", 0))
    whole = all(_is_integer(side) and side > 0 for side in size)
    if ("width" in values or "height" in values) and not whole:
        raise ValueError(f"width and height must both be positive integers: {reprlib.repr(size)}")
    return size


def _corners(boxes: Any) -> list[list[int]]:
    if not isinstance(boxes, list) or not all(isinstance(box, list) and len(box) == 4 for box in boxes):
        raise ValueError(f"boxes must each have 4 corners x0 y0 x1 y1: {reprlib.repr(boxes)}")
    if not all(_is_integer(corner) for box in boxes for corner in box):
        raise ValueError(f"box corner is not an integer: {reprlib.repr(boxes)}")
    return boxes


def _mask(column: str, value: Any) -> str | Region:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"{column} must be a path or run lengths: {reprlib.repr(value)}")
    try:
        return parse_runs(value)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def _is_integer(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**31


LAYOUT = Layout(
    splits,
    read,
    localization=lambda place, split: manifest_file(place.metadata) or place.metadata,
    sign="manifest.csv, nor manifest.jsonl",
    present=lambda folder: manifest_file(folder) is not None,  # it is long
)
