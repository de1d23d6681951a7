"""Boxes that a program has found in images: a line of JSON for each image, as `fcam predict` writes them."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from fcam_jax.data.source import Record
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import read_text

_LIMIT = 2**31  # of a corner
_FORM = '{"image": name, "box": [x0, y0, x1, y1] or null}, whole numbers from 0'


@dataclasses.dataclass(frozen=True)
class FoundBoxes:
    """The boxes in a file of lines such as ``{"image": "a/b.jpg", "box": [10, 20, 110, 90]}``.

    Corners are inclusive pixels of the image. With "width" and "height" in the line the image must have them; of an
    image without a box (null) all is object, by a mask.

    Attributes:
      path: of the file, such as `predictions.jsonl`.
      lines: the content of each image's line, by its name.
    """

    path: pathlib.Path
    lines: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: pathlib.Path) -> "FoundBoxes":
        """Read a file. Raises InputError: it is not there, or a line has another form."""
        lines = {}
        for number, text in enumerate(read_text(path).split("\n"), 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
                name, box = row["image"], row["box"]
                fine = isinstance(name, str) and (box is None or _is_box(box))
            except (ValueError, TypeError, KeyError, RecursionError):
                fine = False
            if not fine:
                raise InputError(f"{path}, line {number}: it must be {_FORM}")
            lines[name] = row
        return cls(path, lines)

    def told(self, record: Record) -> Record:
        """The record with the box of its image, and no mask. Raises InputError: there is none of it."""
        height, width = record.image.shape[:2]
        line = self.lines.get(record.image_id)
        if line is None:
            raise InputError(f"{self.path} has no line of the image {record.image_id}")
        if (line.get("width", width), line.get("height", height)) != (width, height):
            there = f"{line.get('width')} x {line.get('height')}"
            raise InputError(f"{self.path} has {record.image_id} with {there} pixels; it has {width} x {height}")
        box = line["box"]
        if box is None:
            return dataclasses.replace(record, boxes=None, mask=np.ones((height, width), bool), ignore=None)
        if box[0] >= width or box[1] >= height:
            raise InputError(
                f"{self.path}: the box {box} of {record.image_id} is outside its {width} x {height} pixels"
            )
        return dataclasses.replace(record, boxes=np.array([box], np.int64), mask=None, ignore=None)


def _is_box(box: Any) -> bool:
    if not (isinstance(box, list) and len(box) == 4 and all(type(x) is int and 0 <= x < _LIMIT for x in box)):
        return False
    return bool(box[0] <= box[2] and box[1] <= box[3])
