"""A data set described by a table, such as `manifest.csv` or `manifest.jsonl`, with a row for each image.

In: the rows. Out: `Metadata` of a split. `docs/data/own.md` says what the columns mean.
"""

import collections
import pathlib
import re
import reprlib
from typing import Any

import numpy as np

from fcam_jax.data.layouts import tree
from fcam_jax.data.layouts.entries import Content, Entry, metadata_of, report_refused, size_of
from fcam_jax.data.layouts.metadata import NO_MASKS, Layout, Masks, Metadata, Place, folder_names, ordered, settle_names
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.regions import Region, parse_runs
from fcam_jax.data.layouts.tables import NAMES, Table, read_rows, tables
from fcam_jax.data.source import SPLITS
from fcam_jax.runtime.text import listed

_LOOKED_AT = 100  # headers of images without a stated size, to compare boxes with
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def splits(folder: pathlib.Path) -> tuple[str, ...]:
    """The splits that a folder's manifest has; none without a manifest. Raises InputError: the manifest cannot be read,
    or its rows are of no split that is known.
    """
    found, problems = set[str](), Problems()
    for table in tables(folder):
        for line, row in read_rows(table, Problems()):
            try:
                found.add(_split(row, table))
            except ValueError as error:
                problems.error(table.path, str(error), line=line)
    if not found:
        problems.settle()
    return tree.in_order(found)


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split; `problems` is told of values that are none of their column. Raises InputError: the file
    cannot be read, or has other columns, or no such split, or names more classes.
    """
    found = tables(place.metadata)
    if not found:
        raise problems.stop(place.metadata, f"has neither {' nor '.join(NAMES)}")
    path = next((table.path for table in found if table.split == split), found[0].path)
    entries: list[Entry] = []
    labels: collections.Counter[Any] = collections.Counter()  # of all splits
    class_names: dict[Any, str] = {}
    seen: set[str] = set()
    for table in found:
        for line, values in read_rows(table, problems if table.path == path else Problems()):
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
                    entries.append(_entry(table.path, line, label, values, place.images))
            except ValueError as error:
                if its_split == split:
                    problems.error(table.path, f"{image_id}: {error}", line=line, image_id=image_id)
    if not entries:
        problems.settle()
        raise problems.stop(path, f"has no split {split!r}; it has: {', '.join(tree.in_order(seen)) or 'no image'}")
    entries = _united(entries, problems)
    report_refused(entries, problems)
    if not found[0].own:
        _find(entries, split, path.parent, place.images, problems)
    content = Content(path, entries, [], found[0].form)
    return _metadata(content, labels, class_names, num_classes, place, problems)


def _split(values: dict[str, Any], table: Table) -> str:
    given = values.get("split", table.split)
    found = tree.split_of(given) if isinstance(given, str) else None
    if found is None:
        raise ValueError(f"unknown split {reprlib.repr(given)}; known: {', '.join(SPLITS)}")
    return found


def _find(entries: list[Entry], split: str, table: pathlib.Path, images: pathlib.Path, problems: Problems) -> None:
    """Put the folder, and the ending, before and after paths that lack it: that of the table or split before others."""
    inside = tree.subfolders(images)
    deeper = [f"images/{name}" for name in tree.subfolders(images / "images")] if "images" in inside else []
    own = [table.relative_to(images).as_posix()] if table.is_relative_to(images) else []
    of_split = [name for name in (*inside, *deeper) if tree.split_of(name.removeprefix("images/")) == split]
    folders = [*own, "", *of_split, *inside, *deeper]
    shown = [entry.path for entry in entries[:50]]
    ended = {ending: [f"{path}{ending}" for path in shown] for ending in ("", *tree.SUFFIXES)}
    ending = max(ended, key=lambda one: sum(tree.held(images / folder, ended[one][:5]) for folder in folders))
    folder = tree.fullest(images, folders, ended[ending])
    if not tree.held(images / folder, ended[ending]):
        text = f"its images are in no folder here, such as {shown[0][:200]}"
        problems.warn(images, f"{text} (of class folders, without a table: --config.data.layout=classes)")
    for entry in entries:
        entry.path = f"{folder}/{entry.path}{ending}" if folder else f"{entry.path}{ending}"


def _metadata(
    content: Content,
    labels: collections.Counter[Any],
    class_names: dict[Any, str],
    num_classes: int,
    place: Place,
    problems: Problems,
) -> Metadata:
    """The metadata of entries; `labels` of all splits say whether they are names or numbers."""
    entries, path = content.entries, content.file
    integers = sum(count for label, count in labels.items() if isinstance(label, int))
    numbered = 2 * integers >= labels.total()  # of two kinds, the rarer one is the mistake
    names: tuple[str, ...] | None
    known: dict[str, int] = {}
    if numbered:
        count = num_classes or 1 + max(label for label in labels if isinstance(label, int))
        told = class_names and (num_classes or len(class_names) == count)
        names = tuple(class_names.get(label, "") for label in range(count)) if told else None
    else:
        in_labels = ordered(label for label in labels if isinstance(label, str))
        count, names = settle_names(in_labels, num_classes, path, problems)
        known = {name: position for position, name in enumerate(in_labels)}
        if several := [name for name in in_labels if re.search(r"\S *[;|] *\S", name)]:
            problems.warn(path, f"each label is one class, also {listed(several)}; an image cannot have several")
    values = np.full(len(entries), -1, np.int32)
    for position, entry in enumerate(entries):
        label = entry.classes[0]
        if isinstance(label, int) != numbered:
            others = "integers" if numbered else "names"
            entry.error(problems, f"label {reprlib.repr(label)}, but most labels are {others}")
        elif numbered and not 0 <= label < count:
            entry.error(problems, f"label must be in [0, {count}), by data.num_classes: {label}")
        else:
            values[position] = label if numbered else known[label]
    names = names or folder_names([entry.image_id for entry in entries], values, count)
    sizes = np.array([entry.size for entry in entries], np.int32)
    boxed = [row for row, entry in enumerate(entries) if entry.boxes]
    shares = max((number for row in boxed for box in entries[row].boxes for number in box), default=2) <= 1.001
    for row in boxed if shares else boxed[:_LOOKED_AT]:  # shares need every size, mistakes show in some
        if not sizes[row].any() and not tree.refused([entries[row].path]):
            sizes[row] = size_of(place.images / entries[row].path, place.upright)
    return metadata_of(content, values, count, names, place, problems, looked_up=sizes)


def _united(entries: list[Entry], problems: Problems) -> list[Entry]:
    """An entry for each image: what several rows say of the objects of one is put together."""
    by_id: dict[str, Entry] = {}
    for entry in entries:
        first = by_id.setdefault(entry.image_id, entry)
        if first is entry:
            continue
        error = ""
        if (entry.path, *entry.classes) != (first.path, *first.classes):
            what = f"label {reprlib.repr(first.classes[0])}" if entry.path == first.path else f"path {first.path}"
            error = f"has {what} in line {first.line}"
        elif not (entry.boxes and first.boxes) and not (entry.masks.instances and first.masks.instances):
            error = "is there more than once"
        if error:
            problems.error(entry.file, f"{entry.image_id} {error}", line=entry.line, image_id=entry.image_id)
            continue
        first.boxes = [*first.boxes, *(box for box in entry.boxes if box not in first.boxes)]
        instances = dict.fromkeys((*first.masks.instances, *entry.masks.instances))
        first.masks = Masks(tuple(instances), first.masks.ignore or entry.masks.ignore)
    return list(by_id.values())


def _entry(file: pathlib.Path, line: int, label: Any, values: dict[str, Any], images: pathlib.Path) -> Entry:
    """A row's values. Raises ValueError: one is none of its column; the message says which."""
    path = tree.relative(_text(values, "path"), images)
    if not path:
        raise ValueError("no path")
    given = values.get("mask", [])
    instances = tuple(_mask("mask", mask, images) for mask in (given if isinstance(given, list) else [given]))
    ignored = (_mask("ignore", values["ignore"], images),) if "ignore" in values else ()
    checksum = _text(values, "sha256").lower()
    if checksum and not _SHA256.fullmatch(checksum):
        raise ValueError(f"sha256 must have 64 hexadecimal digits: {reprlib.repr(checksum)}")
    size = (values.get("width", 0), values.get("height", 0))
    whole = all(_is_number(side) and side > 0 and side == int(side) for side in size)
    if ("width" in values or "height" in values) and not whole:
        raise ValueError(f"width and height must both be positive integers: {reprlib.repr(size)}")
    return Entry(
        file,
        _text(values, "image_id") or path,
        path,
        size=(int(size[0]), int(size[1])),
        classes=(label,),
        boxes=_boxes(values.get("boxes", [])),
        masks=Masks(instances, ignored) if instances or ignored else NO_MASKS,
        checksum=checksum,
        line=line,
    )


def _text(values: dict[str, Any], column: str) -> str:
    value = values.get(column, "")
    if not isinstance(value, str):
        wanted = "an integer or a name" if column == "label" else "a text"
        raise ValueError(f"{column} must be {wanted}: {reprlib.repr(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{column} is not valid Unicode: {reprlib.repr(value)}") from None
    return value


def _label(values: dict[str, Any]) -> Any:
    label = values.get("label", "")
    if label in ("", "nan", "NaN", "<NA>"):  # the last three as pandas writes what is not there
        raise ValueError("no label")
    if not (type(label) is int and abs(label) < 2**31):
        label = tree.composed(_text(values, "label"))
    if "class_name" in values and not (isinstance(label, int) and _text(values, "class_name")):
        raise ValueError("class_name must be a text beside a label that is an integer")
    return label


def _boxes(boxes: Any) -> list[list[int | float]]:
    if not isinstance(boxes, list) or not all(isinstance(box, list) and len(box) == 4 for box in boxes):
        raise ValueError(f"boxes must each have 4 corners x0 y0 x1 y1: {reprlib.repr(boxes)}")
    if not all(_is_number(corner) for box in boxes for corner in box):
        raise ValueError(f"box corner is not a number of pixels: {reprlib.repr(boxes)}")
    return boxes


def _mask(column: str, value: Any, images: pathlib.Path) -> str | Region:
    if isinstance(value, str):
        return tree.relative(value, images)
    if not isinstance(value, dict):
        raise ValueError(f"{column} must be a path or run lengths: {reprlib.repr(value)}")
    try:
        return parse_runs(value)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**30


LAYOUT = Layout(
    splits,
    read,
    sign="manifest.csv, nor manifest.jsonl",
    localization=lambda place, split: tables(place.metadata)[0].path,
    present=lambda folder: bool(tables(folder)),  # they may be long
)
