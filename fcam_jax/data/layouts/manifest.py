"""A data set described by one file, `manifest.csv` or `manifest.jsonl`, with a row for each image.

In: the rows. Out: `Metadata` of a split. `docs/data/own.md` says what the columns mean.
"""

import collections
import dataclasses
import os
import pathlib
import re
import reprlib
import unicodedata
from typing import Any

import numpy as np
from jaxtyping import Int

from fcam_jax.data.layouts.boxes import BOX_RULE, corners, grouped, in_pixels
from fcam_jax.data.layouts.manifest_file import NAMES, Table, read_rows, tables
from fcam_jax.data.layouts.metadata import (
    Layout,
    Masks,
    Metadata,
    Place,
    folder_names,
    ordered,
    settle_names,
)
from fcam_jax.data.layouts.paths import fullest, refused, relative, split_of
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.regions import Region, parse_runs
from fcam_jax.data.layouts.tree import SUFFIXES, subfolders
from fcam_jax.data.layouts.whole import size_of
from fcam_jax.data.source import SPLITS
from fcam_jax.errors import InputError
from fcam_jax.runtime.text import listed

_WANTED = {"label": "an integer or a name"}
_NO_MASKS = Masks()
_LOOKED_AT = 100  # headers of images without a stated size, to compare boxes with
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclasses.dataclass(slots=True)  # neither frozen nor with a dictionary: there may be a million
class _Row:
    """A row of the split that is read."""

    line: int
    image_id: str
    path: str
    label: Any
    size: tuple[int, int]
    boxes: list[list[int | float]]
    masks: Masks
    checksum: str

    def error(self, path: pathlib.Path, text: str, problems: Problems, between: str = ": ") -> None:
        """An error of this image."""
        problems.error(path, f"{self.image_id}{between}{text}", line=self.line, image_id=self.image_id)


def splits(folder: pathlib.Path) -> tuple[str, ...]:
    """The splits that a folder's manifest has; none without a manifest.

    Raises:
      InputError: the manifest cannot be read, or its rows are of no split that is known.
    """
    found: set[str] = set()
    unknown = ""
    for table in tables(folder):
        for line, row in read_rows(table, Problems()):
            try:
                found.add(_split(row, table))
            except ValueError as error:
                unknown = unknown or f"{table.path}, line {line}: {error}"
    if unknown and not found:
        raise InputError(unknown)
    return tuple(split for split in SPLITS if split in found)


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split; `problems` is told of values that are none of their column.

    Raises:
      InputError: the file cannot be read, or has other columns, or no such split, or names more classes.
    """
    found = tables(place.metadata)
    if not found:
        raise problems.stop(place.metadata, f"has neither {' nor '.join(NAMES)}")
    rows: list[_Row] = []
    labels: collections.Counter[Any] = collections.Counter()  # of all splits
    class_names: dict[Any, str] = {}
    seen: set[str] = set()
    path = next((table.path for table in found if table.split == split), found[0].path)
    for table in found:
        told = Problems()
        for line, values in read_rows(table, problems if table.path == path else told):
            image_id = str(values.get("image_id") or values.get("path") or f"line {line}")
            its_split = split
            try:
                its_split = _split(values, table)
                seen.add(its_split)
                label = _label(values)
                labels[label] += 1
                name = values.get("class_name")
                if name is not None and class_names.setdefault(label, name) != name:
                    raise ValueError(f"label {label} is {class_names[label]!r} in a line above")
                if its_split == split:
                    rows.append(_row(line, label, values, place.images))
            except ValueError as error:
                if its_split == split:
                    problems.error(table.path, f"{image_id}: {error}", line=line, image_id=image_id)
    if not rows:
        problems.raise_first()
        has = ", ".join(name for name in SPLITS if name in seen)
        raise problems.stop(path, f"has no split {split!r}; it has: {has or 'no image'}")
    rows = _usable(rows, path, problems)
    if not found[0].own:
        _find(rows, split, path.parent, place.images, problems)
    form = place.boxes or found[0].form
    return _metadata(path, rows, labels, class_names, num_classes, dataclasses.replace(place, boxes=form), problems)


def _split(values: dict[str, Any], table: Table) -> str:
    """The split of a row.

    Raises:
      ValueError: it is none that is known.
    """
    given = values.get("split", table.split)
    found = split_of(given) if isinstance(given, str) else None
    if found is None:
        raise ValueError(f"unknown split {reprlib.repr(given)}; known: {', '.join(SPLITS)}")
    return found


def _find(rows: list[_Row], split: str, table: pathlib.Path, images: pathlib.Path, problems: Problems) -> None:
    """Put the folder, and the ending, before and after paths that lack it: that of the table or split before others."""
    inside = subfolders(images)
    deeper = [f"images/{name}" for name in subfolders(images / "images")] if "images" in inside else []
    own = [table.relative_to(images).as_posix()] if table.is_relative_to(images) else []
    of_split = [name for name in (*inside, *deeper) if split_of(name.removeprefix("images/")) == split]
    folders = [*own, "", *of_split, *inside, *deeper]
    endings = ("", *SUFFIXES)
    shown = [row.path for row in rows[:50]]
    ending = max(endings, key=lambda one: sum(_held(images, folders, f"{path}{one}") for path in shown[:5]))
    folder = fullest(images, folders, [f"{path}{ending}" for path in shown])
    if not any(_held(images, [folder], f"{path}{ending}") for path in shown):
        text = f"its images are in no folder here, such as {shown[0][:200]}"
        problems.warn(images, f"{text} (of class folders, without a table: --config.data.layout=classes)")
    for row in rows:
        row.path = f"{folder}/{row.path}{ending}" if folder else f"{row.path}{ending}"


def _held(images: pathlib.Path, folders: list[str], path: str) -> bool:
    return any(os.path.isfile(images / folder / path) for folder in folders)  # noqa: PTH113 (a Path's raises)


def _metadata(
    path: pathlib.Path,
    rows: list[_Row],
    labels: collections.Counter[Any],
    class_names: dict[Any, str],
    num_classes: int,
    place: Place,
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
        in_order = ordered(label for label in labels if isinstance(label, str))
        count, names = settle_names(in_order, num_classes, path, problems)
        known = {name: position for position, name in enumerate(in_order)}
        if several := [name for name in in_order if re.search(r"\S *[;|] *\S", name)]:
            problems.warn(path, f"each label is one class, also {listed(several)}; an image cannot have several")
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
        boxes=_boxes(path, rows, sizes, place, problems),
        masks=masks if any(some.instances or some.ignore for some in masks) else None,
        num_classes=count,
        paths=[row.path for row in rows],
        checksums=checksums if any(checksums) else None,
        class_names=names or folder_names(image_ids, values, count),
    )


def _boxes(
    path: pathlib.Path, rows: list[_Row], sizes: Int[np.ndarray, "n 2"], place: Place, problems: Problems
) -> list[Int[np.ndarray, "_ 4"]] | None:
    flat = [box for row in rows for box in row.boxes]
    if not flat:
        return None
    owners = np.repeat(np.arange(len(rows)), [len(row.boxes) for row in rows])
    values = np.array(flat, np.float64)
    looked = sizes.copy()  # shares need every size, mistakes show in some
    for row in np.unique(owners)[: None if values.max() <= 1.001 else _LOOKED_AT]:
        if not looked[row].any() and not refused([rows[row].path]):
            looked[row] = size_of(place.images / rows[row].path, place.upright)
    values = in_pixels(values, place.boxes, looked[owners], path, problems)
    boxes, fits = corners(values, place.boxes, sizes[owners])
    for box in np.flatnonzero(~fits).tolist():
        rows[owners[box]].error(path, f"{BOX_RULE}: {flat[box]}", problems)
    return grouped(boxes[fits], owners[fits], len(rows))


def _usable(rows: list[_Row], path: pathlib.Path, problems: Problems) -> list[_Row]:
    """A row for each image: what several rows say of the objects of one is put together. Paths that may not be opened
    are told.
    """
    by_id: dict[str, _Row] = {}
    for row in rows:
        first = by_id.setdefault(row.image_id, row)
        if first is row:
            continue
        if (row.path, row.label) != (first.path, first.label):
            what = f"label {reprlib.repr(first.label)}" if row.path == first.path else f"path {first.path}"
            row.error(path, f"has {what} in line {first.line}", problems, between=" ")
        elif not (row.boxes and first.boxes) and not (row.masks.instances and first.masks.instances):
            row.error(path, "is there more than once", problems, between=" ")
        else:
            first.boxes = [*first.boxes, *(box for box in row.boxes if box not in first.boxes)]
            first.masks = Masks(
                tuple(dict.fromkeys((*first.masks.instances, *row.masks.instances))),
                first.masks.ignore or row.masks.ignore,
            )
    reasons = refused(name for row in by_id.values() for name in (row.path, *row.masks.files()))
    for row in by_id.values() if reasons else ():
        for name in (row.path, *row.masks.files()):
            if name in reasons:
                row.error(path, f"{reasons[name]}: {name}", problems)
    return list(by_id.values())


def _row(line: int, label: Any, values: dict[str, Any], images: pathlib.Path) -> _Row:
    """A row's values.

    Raises:
      ValueError: one is none of its column; the message says which.
    """
    path = relative(_text(values, "path"), images)
    if not path:
        raise ValueError("no path")
    given = values.get("mask", [])
    masks = given if isinstance(given, list) else [given]
    instances = tuple(_mask("mask", mask, images) for mask in masks)
    ignored = (_mask("ignore", values["ignore"], images),) if "ignore" in values else ()
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
    if label in ("", "nan", "NaN", "<NA>"):  # the last three as pandas writes what is not there
        raise ValueError("no label")
    if not _is_integer(label):
        label = unicodedata.normalize("NFC", _text(values, "label"))  # systems write accents in two ways
    if "class_name" in values and not (isinstance(label, int) and _text(values, "class_name")):
        raise ValueError("class_name must be a text beside a label that is an integer")
    return label


def _size(values: dict[str, Any]) -> tuple[int, int]:
    size = (values.get("width", 0), values.get("height", 0))
    whole = all(_is_number(side) and side > 0 and side == int(side) for side in size)
    if ("width" in values or "height" in values) and not whole:
        raise ValueError(f"width and height must both be positive integers: {reprlib.repr(size)}")
    return int(size[0]), int(size[1])


def _corners(boxes: Any) -> list[list[int | float]]:
    if not isinstance(boxes, list) or not all(isinstance(box, list) and len(box) == 4 for box in boxes):
        raise ValueError(f"boxes must each have 4 corners x0 y0 x1 y1: {reprlib.repr(boxes)}")
    if not all(_is_number(corner) for box in boxes for corner in box):
        raise ValueError(f"box corner is not a number of pixels: {reprlib.repr(boxes)}")
    return boxes


def _mask(column: str, value: Any, images: pathlib.Path) -> str | Region:
    if isinstance(value, str):
        return relative(value, images)
    if not isinstance(value, dict):
        raise ValueError(f"{column} must be a path or run lengths: {reprlib.repr(value)}")
    try:
        return parse_runs(value)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def _is_integer(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**31


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**30


LAYOUT = Layout(
    splits,
    read,
    localization=lambda place, split: tables(place.metadata)[0].path,
    sign="manifest.csv, nor manifest.jsonl",
    present=lambda folder: bool(tables(folder)),  # they may be long
)
