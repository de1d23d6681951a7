"""Manifests, and tables of images as spreadsheets and other programs write them: rows as dictionaries by our columns.

Each row comes with its line; its values are what JSON has, those of a CSV as JSON would have them.
"""

import codecs
import csv
import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.tree import listing, split_of, subfolders
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import TABLE, fresh_partial, open_regular, open_text, reason
from fcam_jax.runtime.text import listed

NAMES = ("manifest.csv", "manifest.jsonl")
_COLUMNS = "path label boxes mask ignore split sha256 width height image_id class_name".split()  # noqa: SIM905

# What other programs call the columns, in small letters and with nothing between words.
_ALSO = {
    "path": "filepath filename filenames file image images imagepath imagefile imagename img imgpath imgname",
    "label": "labels class classes category categories target species breed y classid labelid categoryid "
    "classlabel diagnosis dx",
    "boxes": "box bbox bboxes boundingbox boundingboxes",
    "mask": "masks maskpath",
    "split": "set subset partition phase",
    "width": "imagewidth imgwidth",
    "height": "imageheight imgheight",
    "image_id": "id imageid idcode",
    "class_name": "classname labelname categoryname",
}
_MEANT = {other: name for name, others in _ALSO.items() for other in others.split()}

# Four columns of a box, with what they are of `boxes.FORMS`.
_EDGES = {
    **dict.fromkeys(("xmin ymin xmax ymax", "x0 y0 x1 y1", "x1 y1 x2 y2", "left top right bottom"), "corners"),
    **dict.fromkeys(("x y w h", "x y width height", "left top width height", "xmin ymin w h"), "xywh"),
    **dict.fromkeys(("bboxx bboxy bboxwidth bboxheight", "xmin ymin width height"), "xywh"),
    **dict.fromkeys(("xcenter ycenter width height", "cx cy w h", "xc yc w h"), "centre"),
}
_EDGE = "edge "  # and its number: the name of one of them

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})(e[-+]?[0-9]{1,2})?", re.I)
_MARKS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@dataclasses.dataclass(frozen=True)
class Table:
    """A manifest."""

    path: pathlib.Path  # its file
    split: str = "train"  # that its rows are of where they say nothing
    own: bool = True  # it is one of `NAMES`; the columns of others may stay unused, and their images are looked for

    @property
    def form(self) -> str:
        """What its boxes are of `boxes.FORMS`, by the names of its columns or by our rule."""
        line = _first_line(self.path) if self.path.suffix != ".jsonl" else ""
        return _columns(line)[1] or "corners"


def tables(folder: pathlib.Path) -> list[Table]:
    """The manifest in a folder or, without one, a table with paths and labels, or one for each split. Raises
    InputError: there are several.
    """
    names = sorted(listing(folder))
    own = [folder / name for name in NAMES if name in names]
    if len(own) > 1:
        raise InputError(f"{folder}: has {' and '.join(NAMES)}, keep one of them")
    if own:
        return [Table(own[0])]
    below = [name for name in subfolders(folder) if split_of(name)]
    paths = [folder / name for name in names]
    paths += [folder / name / file for name in below for file in sorted(listing(folder / name))]
    texts = [path for path in paths if path.name.lower().endswith((".csv", ".tsv")) and path.name[0] != "."]
    found = [path for path in texts if {"path", "label"} <= set(_columns(_first_line(path))[0])]
    called = [(path, split_of(path.stem if path.parent == folder else path.parent.name)) for path in found]
    some = [Table(path, split, own=False) for path, split in called if split]
    some = some or [Table(path, own=False) for path in found]
    if len({table.split for table in some}) < len(some):
        shown = listed([table.path.name for table in some])
        raise InputError(f"{folder}: several tables have images and labels, call one {NAMES[0]}: {shown}")
    return some


def read_rows(table: Table, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows that can be read, each with its line and those of its values that are neither empty nor null. Raises
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
    """Write `manifest.jsonl`, all of it or nothing. Raises InputError: it cannot be written."""
    try:
        partial = fresh_partial(out)
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        partial.replace(out)
    except OSError as error:
        raise InputError(f"--out={out}: cannot be written: {error.strerror or error}") from error


def _json_rows(path: pathlib.Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                wrong = "" if isinstance(row, dict) else "must be an object, {...}"
            except (ValueError, RecursionError) as error:
                where = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                wrong = f"cannot be read as JSON: {where}"
            if wrong:
                problems.error(path, wrong, line=number, image_id=f"line {number}")
                continue
            if unknown := [key for key in row if key not in _COLUMNS]:
                raise _refusal(path, number, unknown, problems)
            yield number, {key: value for key, value in row.items() if value is not None}


def _csv_rows(table: Table, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    path = table.path
    with _opened(path) as file:
        number = 1
        try:
            line = file.readline()
            header, delimiter = _columns(line)[0], _delimiter_of(line)
            _check_header(header, table, problems)
            reader = csv.reader(file, strict=True, delimiter=delimiter)
            for row in reader:
                number = reader.line_num + 1
                if len(row) == len(header):
                    yield number, _values(header, row)
                elif row:
                    text = f"has {len(row)} fields, the first line {len(header)}"
                    hint = f"a field with a {_MARKS[delimiter]} needs quotes"
                    problems.error(path, f"{text} ({hint})", line=number, image_id=f"line {number}")
            number = reader.line_num + 1
        except csv.Error as error:
            raise problems.stop(path, f"cannot be read as CSV: {error}", line=number + 1) from error


def _opened(path: pathlib.Path) -> io.TextIOWrapper:
    """A text in UTF-8, or in UTF-16 with the mark that spreadsheets begin it with."""
    file = open_regular(path, TABLE)
    marked = file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return io.TextIOWrapper(file, encoding="utf-16" if marked else "utf-8-sig", newline="")


def _first_line(path: pathlib.Path) -> str:
    """Empty where it cannot be read."""
    try:
        with _opened(path) as file:
            return file.readline(1 << 16)
    except (OSError, UnicodeError):
        return ""


def _delimiter_of(line: str) -> str:
    """What stands between the columns that a first line names."""
    return max(_MARKS, key=lambda mark: len({"path", "label"} & set(_columns(line, mark)[0])))


def _columns(line: str, delimiter: str = "") -> tuple[list[str], str]:
    """The columns by our names and, where four of them are a box, which of `boxes.FORMS` it has.

    A column of numbers of rows is ``""``, one that is not known has its own name. A line that is no CSV has none.
    """
    try:
        given = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter or _delimiter_of(line)), [])
    except csv.Error:
        return [], ""
    given = [name.strip() for name in given]
    words = [re.sub(r"[\W_]+", "", name).lower() for name in given]
    names = [name if name in _COLUMNS else _MEANT.get(word, name) for name, word in zip(given, words, strict=True)]
    names = ["" if word in ("", "index", "unnamed0") else name for name, word in zip(names, words, strict=True)]
    form = ""
    for edges, its_form in _EDGES.items():
        if not form and "boxes" not in names and set(edges.split()) <= set(words):
            form = its_form
            for position, edge in enumerate(edges.split()):
                names[words.index(edge)] = f"{_EDGE}{position}"
    for name, other in (("path", "image_id"), ("label", "class_name")):
        if name not in names and other in names:
            names[names.index(other)] = name
    return names, form


def _check_header(header: list[str], table: Table, problems: Problems) -> None:
    """Refuse columns that a manifest cannot have; those of other tables are told."""
    names = [name for name in header if name and not name.startswith(_EDGE)]
    unknown = [name for name in names if name not in _COLUMNS]
    if unknown and table.own:
        raise _refusal(table.path, 1, unknown, problems)
    known = [name for name in names if name in _COLUMNS]
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
        if text and name.startswith(_EDGE):
            edges[int(name.removeprefix(_EDGE))] = _number(text)
        elif text and name in _COLUMNS:
            values[name] = _PARSERS.get(name, str)(text)
    return values | {"boxes": [edges]} if any(edge != "" for edge in edges) else values


def _number(text: str) -> float | int | str:
    """A number, whole where it can be; what is none stays text."""
    if not _NUMBER.fullmatch(text):
        return text
    return int(float(text)) if float(text).is_integer() else float(text)


def _boxes(text: str) -> list[list[float | int | str]]:
    """Boxes with ``;`` between them, or each in brackets."""
    flat = re.sub(r"[\])]\s*[,;]?\s*[\[(]", ";", text).strip("[]() ")
    return [[_number(part) for part in re.split(r"[\s,]+", box.strip())] for box in flat.split(";") if box.strip()]


# From the text of a CSV field; what is no value of its column stays text, and is told by who reads it.
_PARSERS: dict[str, Callable[[str], Any]] = {
    "label": lambda text: int(text) if _INTEGER.fullmatch(text) else text,
    **dict.fromkeys(("width", "height"), _number),
    "boxes": _boxes,
    "mask": lambda text: [name.strip() for name in text.split(";") if name.strip()],
}


def _refusal(path: pathlib.Path, line: int, names: list[str], problems: Problems) -> InputError:
    text = f"unknown column(s) {listed(names)}; known: {', '.join(_COLUMNS)} (rename or remove the others)"
    return problems.stop(path, text, line=line)
