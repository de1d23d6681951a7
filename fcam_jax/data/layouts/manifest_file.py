"""The rows of a manifest, `manifest.csv` or `manifest.jsonl`, as dictionaries of the same kinds of values.

Each row comes with its line; its values are what JSON has, those of a CSV as JSON would have them.
"""

import csv
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fcam_jax.data.layouts.problems import Problems
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import open_text
from fcam_jax.runtime.text import listed

NAMES = ("manifest.csv", "manifest.jsonl")
COLUMNS = "path label boxes mask ignore split sha256 width height image_id class_name".split()  # noqa: SIM905


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
    """The rows that can be read, each with its line and those of its values that are neither empty nor null.

    Raises:
      InputError: the file is not text, not CSV, or has a column that is not known.
    """
    rows = _csv_rows(path, problems) if path.suffix == ".csv" else _json_rows(path, problems)
    try:
        yield from rows
    except (OSError, UnicodeDecodeError) as error:
        raise problems.stop(path, f"cannot be read as text: {error}") from error


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


def _csv_rows(path: pathlib.Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_text(path, newline="") as file:
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


# From the text of a CSV field; what is no value of its column stays text, and is told by who reads it.
_PARSERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("label", "width", "height"), _number),
    "boxes": lambda text: [[_number(corner) for corner in box.split()] for box in text.split(";") if box.strip()],
    "mask": lambda text: [name.strip() for name in text.split(";") if name.strip()],
}


def _unreadable(path: pathlib.Path, line: int, text: str, problems: Problems) -> None:
    """An error of the one image that the line must be about, whichever that is."""
    problems.error(path, text, line=line, image_id=f"line {line}")


def _unknown(path: pathlib.Path, line: int, names: list[str], problems: Problems) -> InputError:
    return problems.stop(path, f"unknown column(s) {listed(names)}; known: {', '.join(COLUMNS)}", line=line)
