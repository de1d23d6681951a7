"""What has been predicted so far: a line for every image whose files are complete, and the settings they were made by.

    predict_settings.json   what the outputs depend on; a later call with other settings is refused
    predictions.jsonl       a line for each image, added after its files
    predictions.csv         the same as a table, written at the end of a call

A crash leaves at most one broken line and files without a line; such images are predicted again.
"""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fcam_jax.configuration.flat import differences
from fcam_jax.errors import InputError
from fcam_jax.runs.class_names import ClassNames
from fcam_jax.runs.prediction.images import ImageFile
from fcam_jax.runs.prediction.restored import Restored, Threshold
from fcam_jax.runs.report.drawing import Size
from fcam_jax.runtime.files import RECORD, fresh_partial, open_text, read_text, reason, write_record, write_table
from fcam_jax.runtime.text import printable

SETTINGS, LINES, TABLE = "predict_settings.json", "predictions.jsonl", "predictions.csv"
MAPS, OVERLAYS = "maps", "overlays"
# Keys of a record: of its files, from the output folder, and of what tells whether an image is still the same.
FILES = ("map", "levels", "overlay")
ORIGIN = ("path", "bytes", "modified")
_ANEW = "use another --out, or --overwrite to start anew"


class Journal:
    """The records in an output folder."""

    def __init__(self, out: pathlib.Path, settings: Mapping[str, Any], overwrite: bool):
        """Take the folder, made where it does not exist, for predictions by these settings, which are JSON data.

        Raises:
          InputError: it holds predictions by other settings and is not to be overwritten, or cannot be written to.
        """
        self._out = out
        try:
            out.mkdir(parents=True, exist_ok=True)
            if overwrite:
                self._remove()
            self._check(settings)
            write_record(out / SETTINGS, settings)
            self._made_of = self._tidy()
            self._lines = (out / LINES).open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"--out={out} cannot be written ({error.strerror})") from error

    def is_done(self, file: ImageFile) -> bool:
        """Whether the image, as it is now, has been predicted; an `InputError` where another has under its name."""
        origin = self._made_of.get(file.name)
        if origin is None:
            return False
        if origin["path"] != os.path.realpath(file.path):
            other = f"{printable(file.name)} ({printable(origin['path'])})"
            raise InputError(f"--out={self._out} holds the prediction of another image by the name {other}; {_ANEW}")
        try:
            return origin == origin_of(file)
        except OSError:
            return False  # reading it will tell

    def append(self, record: Mapping[str, Any]) -> None:
        """Add the record of an image whose files are in place."""
        self._lines.write(json.dumps(record) + "\n")
        self._lines.flush()

    def close(self) -> None:
        """Write the table of all records."""
        self._lines.close()
        self._tidy()
        columns = next(map(list, map(_row, self._stored())), ["image"])
        write_table(self._out / TABLE, map(_row, self._stored()), columns)

    def _check(self, settings: Mapping[str, Any]) -> None:
        path = self._out / SETTINGS
        if not any(self._stored()):
            return  # what has no predictions contradicts nothing
        try:
            there = dict(json.loads(read_text(path, RECORD)))
        except (ValueError, TypeError, RecursionError):
            told = f"of unknown settings ({path} cannot be read)"
        else:
            changed = differences(there, json.loads(json.dumps(settings)), (), "there", "now")
            told = f"by other settings ({'; '.join(changed)})" if changed else ""
        if told:
            raise InputError(f"--out={self._out} holds predictions {told}; {_ANEW}")

    def _tidy(self) -> dict[str, dict[str, Any]]:
        """Keep the last line of each image, where its files are there; returns what those images were by their name."""
        last = {record["image"]: number for number, record in enumerate(self._stored())}
        made_of = {}
        partial = fresh_partial(self._out / LINES)
        with partial.open("w", encoding="utf-8") as file:
            for number, record in enumerate(self._stored()):
                if last[record["image"]] == number and all((self._out / record[key]).is_file() for key in FILES):
                    file.write(json.dumps(record) + "\n")
                    made_of[record["image"]] = {key: record[key] for key in ORIGIN}
        partial.replace(self._out / LINES)
        return made_of

    def _stored(self) -> Iterator[dict[str, Any]]:
        """Records in the file, without broken lines."""
        path = self._out / LINES
        if not path.exists():
            return
        try:
            lines = open_text(path, errors="replace")
        except OSError as error:
            raise InputError(f"--out={self._out}: {path} cannot be read ({reason(error)}); remove it") from error
        with lines:
            for line in lines:
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if _is_record(record):
                    yield record

    def _remove(self) -> None:
        """Remove the predictions that are listed, and nothing else of the folder."""
        for record in self._stored():
            for path in (self._out / record[key] for key in FILES):
                if any(path.resolve().is_relative_to((self._out / part).resolve()) for part in (MAPS, OVERLAYS)):
                    path.unlink(missing_ok=True)
        for name in (LINES, TABLE, SETTINGS):
            (self._out / name).unlink(missing_ok=True)


def record_of(
    name: str, size: Size, found: Restored, threshold: Threshold, class_names: ClassNames, top: int
) -> dict[str, Any]:
    """What is recorded of an image of a height and width, without its files."""

    def entry(label: int) -> dict[str, Any]:
        return {"label": label, "class": class_names[label], "probability": float(found.probabilities[label])}

    return {
        "image": name,
        "width": size[1],
        "height": size[0],
        **entry(found.label),
        "threshold": threshold.value,
        "threshold_source": threshold.source,
        "level": found.level,
        "box": found.boxes[0].tolist() if len(found.boxes) else None,
        "boxes": found.boxes.tolist(),
        "top": list(map(entry, np.argsort(-found.logits, kind="stable")[:top].tolist())),
    }


def origin_of(file: ImageFile) -> dict[str, Any]:
    """The facts `ORIGIN` of a file; raises an `OSError` where it is not there."""
    status = file.path.stat()
    return {"path": os.path.realpath(file.path), "bytes": status.st_size, "modified": status.st_mtime_ns}


def _is_record(given: Any) -> bool:
    if not isinstance(given, dict) or not all(isinstance(given.get(key), str) for key in ("image", "path", *FILES)):
        return False
    box, boxes, top = given.get("box"), given.get("boxes"), given.get("top")
    drawn = isinstance(boxes, list) and (box is None or (isinstance(box, list) and len(box) == 4))
    return drawn and isinstance(top, list) and all(isinstance(one, dict) for one in top) and given.keys() >= set(ORIGIN)


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a row of the table."""
    plain = {key: value for key, value in record.items() if key not in ("box", "boxes", "top")}
    corners = dict(zip(("x0", "y0", "x1", "y1"), record["box"] or [""] * 4, strict=True))
    classes = {f"top{i}_{key}": value for i, entry in enumerate(record["top"], 1) for key, value in entry.items()}
    return plain | corners | {"boxes": len(record["boxes"])} | classes
