"""The rows of a manifest, `manifest.csv` or `manifest.jsonl`, as dictionaries of the same kinds of values.

Each row comes with its line; its values are what JSON has, those of a CSV as JSON would have them.
"""

import csv
import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fcam_jax.data.layouts.paths import listing, split_of
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.table import COLUMNS, EDGE, columns, delimiter_of, first_line, opened
from fcam_jax.data.layouts.tree import subfolders
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import open_text, reason
from fcam_jax.runtime.text import listed

NAMES = ("manifest.csv", "manifest.jsonl")


@dataclasses.dataclass(frozen=True)
class Table:
    """A manifest.

    Attributes:
      path: its file.
      split: that its rows are of where they say nothing.
      own: it is one of `NAMES`; the columns of others may stay unused, and their images are looked for.
    """

    path: pathlib.Path
    split: str = "train"
    own: bool = True

    @property
    def form(self) -> str:
        """What its boxes are of `boxes.FORMS`, by the names of its columns or by our rule."""
        line = first_line(self.path) if self.path.suffix != ".jsonl" else ""
        return columns(line, delimiter_of(line))[1] or "corners"


def tables(folder: pathlib.Path) -> list[Table]:
    """The manifest in a folder or, without one, a table with paths and labels, or one for each split.

    Raises:
      InputError: there are several.
    """
    names = sorted(listing(folder))
    own = [folder / name for name in NAMES if name in names]
    if len(own) > 1:
        raise InputError(f"{folder}: has {' and '.join(NAMES)}, keep one of them")
    if own:
        return [Table(own[0])]
    paths = [folder / name for name in names]
    paths += [
        folder / name / file for name in subfolders(folder) if split_of(name) for file in sorted(listing(folder / name))
    ]
    texts = [path for path in paths if path.name.lower().endswith((".csv", ".tsv")) and path.name[0] != "."]
    found = [path for path in texts if _names_columns(first_line(path))]
    splits = [Table(path, split, own=False) for path in found if (split := _split_of(path, folder))]
    some = splits or [Table(path, own=False) for path in found]
    if len({table.split for table in some}) < len(some):
        shown = listed([table.path.name for table in some])
        raise InputError(f"{folder}: several tables have images and labels, call one {NAMES[0]}: {shown}")
    return some


def _split_of(path: pathlib.Path, folder: pathlib.Path) -> str | None:
    return split_of(path.stem) if path.parent == folder else split_of(path.parent.name)


def _names_columns(line: str) -> bool:
    try:
        return {"path", "label"} <= set(columns(line, delimiter_of(line))[0])
    except csv.Error:
        return False


def read_rows(table: Table, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows that can be read, each with its line and those of its values that are neither empty nor null.

    Raises:
      InputError: the file is not text, not CSV, or has a column that is not known.
    """
    rows = _json_rows(table.path, problems) if table.path.suffix == ".jsonl" else _csv_rows(table, problems)
    try:
        yield from rows
    except UnicodeError as error:
        raise problems.stop(table.path, f"cannot be read as text: {error} (save it as UTF-8)") from error
    except OSError as error:
        raise problems.stop(table.path, f"cannot be read as text: {reason(error)}") from error


def write_rows(out: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `manifest.jsonl`, all of it or nothing.

    Raises:
      InputError: it cannot be written.
    """
    part = out.with_name(out.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        part.replace(out)
    except OSError as error:
        raise InputError(f"--out={out}: cannot be written: {error.strerror or error}") from error


def _json_rows(path: pathlib.Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise TypeError("must be an object, {...}")
            except json.JSONDecodeError as error:
                _unreadable(path, number, f"cannot be read as JSON: {error.msg}, column {error.colno}", problems)
            except (ValueError, RecursionError) as error:
                _unreadable(path, number, f"cannot be read as JSON: {error}", problems)
            except TypeError as error:
                _unreadable(path, number, str(error), problems)
            else:
                if not row.keys() <= set(COLUMNS):
                    raise _unknown(path, number, [key for key in row if key not in COLUMNS], problems)
                yield number, {key: value for key, value in row.items() if value is not None}


def _csv_rows(table: Table, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    path = table.path
    with opened(path) as file:
        number = 1
        try:
            line = file.readline()
            delimiter = delimiter_of(line)
            header = columns(line, delimiter)[0]
            _check_header(header, table, problems)
            reader = csv.reader(file, strict=True, delimiter=delimiter)
            for row in reader:
                number = reader.line_num + 1
                if len(row) == len(header):
                    yield number, _values(header, row)
                elif row:
                    text = f"has {len(row)} fields, the first line {len(header)}"
                    hint = f"a field with a {_MARKS[delimiter]} needs quotes"
                    _unreadable(path, number, f"{text} ({hint})", problems)
            number = reader.line_num + 1
        except csv.Error as error:
            raise problems.stop(path, f"cannot be read as CSV: {error}", line=number + 1) from error


def _check_header(header: list[str], table: Table, problems: Problems) -> None:
    """Refuse columns that a manifest cannot have; those of other tables are told."""
    names = [name for name in header if name and not name.startswith(EDGE)]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown and table.own:
        raise _unknown(table.path, 1, unknown, problems)
    known = [name for name in names if name in COLUMNS]
    if not {"path", "label"} <= set(known) or len(set(known)) < len(known):
        text = "the first line must name each column once, path and label among them"
        raise problems.stop(table.path, f"{text}; it has {listed(names)}", line=1)
    if not table.own:
        unused = f", but not its columns {listed(unknown)}" if unknown else ""
        problems.warn(table.path, f"is read as the manifest{unused}")


def _values(header: list[str], row: list[str]) -> dict[str, Any]:
    """What a row says, by column; four edges are a box."""
    values: dict[str, Any] = {}
    edges: list[Any] = [""] * 4
    for name, field in zip(header, row, strict=True):
        text = field.strip()
        if text and name.startswith(EDGE):
            edges[int(name.removeprefix(EDGE))] = corner(text)
        elif text and name in COLUMNS:
            values[name] = _PARSERS.get(name, str)(text)
    return values | {"boxes": [edges]} if any(edge != "" for edge in edges) else values


def integer(text: str) -> int | str:
    """A whole number in plain digits; what is none stays text."""
    return int(text) if _INTEGER.fullmatch(text) else text


def corner(text: str) -> float | int | str:
    """A number, whole where it can be; what is none stays text."""
    if not _NUMBER.fullmatch(text):
        return text
    return int(float(text)) if float(text).is_integer() else float(text)


def _boxes(text: str) -> list[list[float | int | str]]:
    """Boxes with ``;`` between them, or each in brackets."""
    flat = re.sub(r"[\])]\s*[,;]?\s*[\[(]", ";", text).strip("[]() ")
    return [[corner(part) for part in re.split(r"[\s,]+", box.strip())] for box in flat.split(";") if box.strip()]


_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})(e[-+]?[0-9]{1,2})?", re.I)
_MARKS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}

# From the text of a CSV field; what is no value of its column stays text, and is told by who reads it.
_PARSERS: dict[str, Callable[[str], Any]] = {
    "label": integer,
    **dict.fromkeys(("width", "height"), corner),
    "boxes": _boxes,
    "mask": lambda text: [name.strip() for name in text.split(";") if name.strip()],
}


def _unreadable(path: pathlib.Path, line: int, text: str, problems: Problems) -> None:
    """An error of the one image that the line must be about, whichever that is."""
    problems.error(path, text, line=line, image_id=f"line {line}")


def _unknown(path: pathlib.Path, line: int, names: list[str], problems: Problems) -> InputError:
    return problems.stop(
        path, f"unknown column(s) {listed(names)}; known: {', '.join(COLUMNS)} (rename or remove the others)", line=line
    )
