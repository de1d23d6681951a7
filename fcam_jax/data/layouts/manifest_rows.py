"""The rows of a manifest, `manifest.csv` or `manifest.jsonl`, as dictionaries of the same kinds of values.

In: the file. Out: for each row its line and its values: what JSON has, a text as JSON would have it.
"""

import csv
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from fcam_jax.data.layouts.problems import Problems, listed
from fcam_jax.errors import InputError

NAMES = ("manifest.csv", "manifest.jsonl")
COLUMNS = (
    *("path", "label", "boxes", "mask", "ignore", "split", "sha256", "width", "height"),
    *("image_id", "class_name"),
)


def manifest_file(folder: pathlib.Path) -> pathlib.Path | None:
    """The manifest in a folder, if there is one.

    Raises:
      InputError: there are two.
    """
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{folder}: has {' and '.join(NAMES)}, keep one of them")
    return found[0] if found else None


def read_rows(path: pathlib.Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows that can be read, each with its line and its values; absent are those that are empty or null.

    Args:
      path: the manifest.
      problems: is told of rows that cannot be read.

    Raises:
      InputError: the file is not text, not CSV, or has a column that is not known.
    """
    rows = _csv_rows(path, problems) if path.suffix == ".csv" else _json_rows(path, problems)
    try:
        yield from rows
    except (OSError, UnicodeDecodeError) as error:
        raise problems.stop(path, f"cannot be read as text: {error}") from error


def _json_rows(path: pathlib.Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                _unreadable(path, number, f"cannot be read as JSON: {error.msg}, column {error.colno}", problems)
                continue
            except (ValueError, RecursionError) as error:
                _unreadable(path, number, f"cannot be read as JSON: {error}", problems)
                continue
            if not isinstance(row, dict):
                _unreadable(path, number, "must be an object, {...}", problems)
                continue
            if not row.keys() <= set(COLUMNS):
                raise _unknown(path, number, [key for key in row if key not in COLUMNS], problems)
            yield number, {key: value for key, value in row.items() if value is not None}


def _csv_rows(path: pathlib.Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            unknown = [name for name in header if name not in COLUMNS]
            missing = [name for name in ("path", "label") if name not in header]
            if unknown:
                raise _unknown(path, 1, unknown, problems)
            if missing or len(set(header)) < len(header):
                text = "the first line must name each column once, path and label among them"
                raise problems.stop(path, text, line=1)
            columns = [(name, _PARSERS.get(name, str)) for name in header]
            for row in reader:
                if len(row) == len(header):
                    fields = zip(columns, row, strict=True)
                    values = {name: parse(text) for (name, parse), text in fields if text and not text.isspace()}
                    yield reader.line_num, values
                elif row:
                    text = f"has {len(row)} fields, the first line {len(header)} (a field with a comma needs quotes)"
                    _unreadable(path, reader.line_num, text, problems)
        except csv.Error as error:
            raise problems.stop(path, f"cannot be read as CSV: {error}", line=reader.line_num) from error


def _number(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text.strip()


def _boxes(text: str) -> list[list[int | str]]:
    return [[_number(corner) for corner in box.split()] for box in text.split(";") if box.strip()]


def _paths(text: str) -> list[str]:
    return [name.strip() for name in text.split(";") if name.strip()]


# From the text of a CSV field; what is no value of its column stays text, and is told by who reads it.
_PARSERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("label", "width", "height"), _number),
    "boxes": _boxes,
    "mask": _paths,
}


def _unreadable(path: pathlib.Path, line: int, text: str, problems: Problems) -> None:
    """An error of the one image that the line must be about, whichever that is."""
    problems.error(path, text, line=line, image_id=f"line {line}")


def _unknown(path: pathlib.Path, line: int, names: list[str], problems: Problems) -> InputError:
    return problems.stop(path, f"unknown column(s) {listed(names)}; known: {', '.join(COLUMNS)}", line=line)
