"""The kept examples of a run: facts of every image with what each method localizes, and pixels when they are asked for.

In: a run's folder and the methods' names. Out: `StoredExample`s. An example that cannot be used is left out, with one
line that says why; the others stay.
"""

import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Int, UInt8

from fcam_jax.errors import InputError
from fcam_jax.runs.class_names import ClassNames, class_title
from fcam_jax.runs.report.record import EVALUATION, EXAMPLES, OBJECT, UNDECIDED
from fcam_jax.runs.report.runs import ODD, finite, why
from fcam_jax.runtime.files import IMAGE, RECORD, read_regular
from fcam_jax.runtime.records import parsed
from fcam_jax.runtime.text import file_name
from fcam_jax.types import Annotation, Image

Levels = UInt8[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a method localizes in an image at its best threshold."""

    row: str  # the method
    levels_file: pathlib.Path  # its score map, as 8-bit levels
    threshold: float  # share of the map's maximum
    box: Int[np.ndarray, " 4"] | None  # corners ``x0, y0, x1, y1``; None where the ground truth has no boxes
    iou: float | None  # of the box with the best true box or of the masks; None without ground truth
    rank: int | None  # how many classes were predicted before the true one, if known
    predicted: int | None  # the class predicted first, if known


@dataclasses.dataclass(frozen=True)
class StoredExample:
    """An image of the evaluated split."""

    image_id: str  # its key in the data set
    label: int  # its class
    class_name: str  # see `class_title`
    image_file: pathlib.Path  # the image at evaluation size
    mask_file: pathlib.Path | None  # its true mask, if there is one
    boxes: Int[np.ndarray, "n 4"] | None  # its true boxes, if there are any
    findings: tuple[Finding, ...]  # of every method that kept the image


@dataclasses.dataclass(frozen=True)
class Pixels:
    """An example's pixels, all of one size."""

    image: Image  # RGB
    jpeg: bytes  # the file that holds it
    mask: Levels | None  # 255 object, 128 undecided, 0 background; None without a mask
    levels: tuple[Levels, ...]  # the methods' score maps

    def truth(self, example: StoredExample) -> Annotation:
        """The example's ground truth."""
        truth = Annotation(example.image_id, example.label, example.boxes)
        if self.mask is None:
            return truth
        return dataclasses.replace(truth, mask=self.mask == OBJECT, ignore=self.mask == UNDECIDED)


def read_examples(
    folder: pathlib.Path, rows: Sequence[str], names: ClassNames = ()
) -> tuple[list[StoredExample], list[str]]:
    """The examples of a run, and a line for each one that was left out.

    Args:
      folder: the run's.
      rows: its methods; an image appears once, with the findings of all of them.
      names: of its classes.
    """
    examples: dict[str, StoredExample] = {}
    left_out = []
    for row in rows:
        path = folder / EVALUATION / EXAMPLES / f"{file_name(row)}.jsonl"
        try:
            lines = read_regular(path, RECORD).splitlines() if path.exists() else []
        except InputError as error:
            left_out.append(str(error))
            continue
        for number, line in enumerate(lines, 1):
            try:
                example = _example(parsed(line), path.parent, row, names)
            except ODD as error:
                left_out.append(f"{path}, line {number}: damaged ({why(error)})")
                continue
            known = examples.setdefault(example.image_id, dataclasses.replace(example, findings=()))
            merged = dataclasses.replace(known, findings=known.findings + example.findings)
            examples[example.image_id] = merged
    return list(examples.values()), left_out


def read_pixels(example: StoredExample) -> Pixels:
    """The pixels of an example.

    Raises:
      InputError: a file is missing or cannot be read, or the files differ in size.
    """
    image, jpeg = _read(example.image_file, "RGB")
    size = image.shape[:2]
    mask = None if example.mask_file is None else _read(example.mask_file, "L", size)[0]
    return Pixels(image, jpeg, mask, tuple(_read(finding.levels_file, "L", size)[0] for finding in example.findings))


def _example(facts: Any, folder: pathlib.Path, row: str, names: ClassNames) -> StoredExample:
    key, box, boxes, iou = str(facts["key"]), facts["box"], facts["boxes"], facts["iou"]
    if not (key.isalnum() and key.isascii() and len(key) < 100):
        raise ValueError("the key is no name of a file")
    threshold = finite(facts["threshold"])
    if not 0 <= threshold < 1:
        raise ValueError("the threshold is none")
    finding = Finding(
        row=row,
        levels_file=folder / file_name(row) / f"{key}.png",
        threshold=threshold,
        box=None if box is None else np.array(box, np.int64).reshape(4),
        iou=None if iou is None else finite(iou),
        rank=_whole(facts["rank"]),
        predicted=_whole(facts["predicted"]),
    )
    label = int(facts["label"])
    return StoredExample(
        image_id=str(facts["image_id"]),
        label=label,
        class_name=class_title(names, label),
        image_file=folder / f"{key}.jpg",
        mask_file=folder / f"{key}.mask.png" if facts["mask"] else None,
        boxes=None if boxes is None else np.array(boxes, np.int64).reshape(-1, 4),
        findings=(finding,),
    )


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _read(path: pathlib.Path, mode: str, size: tuple[int, int] | None = None) -> tuple[np.ndarray, bytes]:
    """Pixels of a file, which must be of a mode, and of a height and width; and the file itself."""
    try:
        data = read_regular(path, IMAGE)
        with PIL.Image.open(io.BytesIO(data)) as image:
            if image.mode != mode:
                raise ValueError(f"it holds {image.mode} pixels, not {mode}")
            pixels = np.asarray(image)
    except Exception as error:  # the parsers in Pillow raise what they stumble over, there is no closed list
        if isinstance(error, InputError):
            raise
        odd = "not an image" if isinstance(error, PIL.UnidentifiedImageError) else f"cannot be read ({why(error)})"
        raise InputError(f"{path}: {odd}") from error
    if size is not None and pixels.shape[:2] != size:
        raise InputError(f"{path}: has {pixels.shape[0]} x {pixels.shape[1]} pixels, the image {size[0]} x {size[1]}")
    return pixels, data
