"""What is known of the images of a split, and its reader for text files in the format of Choe et al. (CVPR 2020).

In: a folder with `image_ids.txt`, `class_labels.txt`, `image_sizes.txt` and `localization.txt`. Out: `Metadata`, in the
order of the image ids. The other layouts of a data set end in the same `Metadata`.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.data.layouts.paths import refused
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.problems import listed as listed
from fcam_jax.data.layouts.regions import Regions
from fcam_jax.data.layouts.text_table import TextTable, read_table, read_text

BOX_RULE = "box must have 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height of its image"


@dataclasses.dataclass(frozen=True)
class MaskFiles:
    """The masks of one image, as paths relative to the image folder.

    Attributes:
      instances: one mask file per object.
      ignore: mask file of the undecided pixels, or None.
    """

    instances: tuple[str, ...]
    ignore: str | None


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a data set says of the images of a split.

    Attributes:
      image_ids: keys of the images.
      labels: class of each image, from 0; -1 where it is not known, which is an error.
      sizes: width and height of each image, 0 where they are not stated; None where none are.
      boxes: boxes of each image in its own pixels; None where there are none.
      masks: mask files of each image; None where there are none.
      num_classes: labels are below it.
      regions: masks of each image that are no files, in addition; None where there are none.
      paths: of the images, relative to the image folder; None where they are the ids.
      checksums: SHA-256 of each image file, empty where it is not stated; None where none are.
      class_names: in the order of the labels; None where the data set does not say.
    """

    image_ids: list[str]
    labels: Int[np.ndarray, " n"]
    sizes: Int[np.ndarray, "n 2"] | None
    boxes: list[Int[np.ndarray, "_ 4"]] | None = None
    masks: list[MaskFiles] | None = None
    num_classes: int = 0
    regions: list[Regions] | None = None
    paths: list[str] | None = None
    checksums: list[str] | None = None
    class_names: tuple[str, ...] | None = None

    def localized(self) -> Bool[np.ndarray, " n"]:
        """Which images have a box or a mask."""
        found = np.zeros(len(self.image_ids), bool)
        for objects in (
            self.boxes or (),
            [files.instances for files in self.masks or ()],
            [regions.instances for regions in self.regions or ()],
        ):
            if len(objects):
                found |= np.fromiter(map(len, objects), np.int64) > 0
        return found

    def select(self, keep: Bool[np.ndarray, " n"]) -> "Metadata":
        """The same of some of the images."""
        rows = np.flatnonzero(keep)
        chosen: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                chosen[field.name] = value[rows]
            elif isinstance(value, list):
                chosen[field.name] = [value[row] for row in rows.tolist()]
        return dataclasses.replace(self, **chosen)


def read_metadata(folder: pathlib.Path, num_classes: int, needs_localization: bool) -> Metadata:
    """Read the text files of a split, all of which must be right.

    Args:
      folder: holds the four files; see `read_split`.
      num_classes: labels must be below it.
      needs_localization: every image must have a box or mask, as evaluation needs it.

    Raises:
      InputError: for the first thing that is wrong.
    """
    problems = Problems()
    metadata = read_split(folder, num_classes, problems)
    if needs_localization:
        localization = folder / "localization.txt"
        read_text(localization, problems)
        report_unlocalized(metadata, localization, problems)
    problems.raise_first()
    return metadata


def read_split(folder: pathlib.Path, num_classes: int, problems: Problems) -> Metadata:
    """Read and check the text files of a split.

    Args:
      folder: holds the four files. An empty `image_sizes.txt` says that the sizes are not known, an empty
        `localization.txt` or none that there are neither boxes nor masks.
      num_classes: labels must be below it.
      problems: is told of lines that cannot be read, ids that are not in all files, or are there twice, or lead out of
        the image folder, labels out of range, boxes outside their image.

    Raises:
      InputError: a file is missing or empty or not text.
    """
    ids = _image_ids(folder / "image_ids.txt", problems)
    position = {image_id: index for index, image_id in enumerate(ids)}
    labels = _labels(read_table(folder / "class_labels.txt", 1, position, problems), position, num_classes, problems)
    sizes = _sizes(read_table(folder / "image_sizes.txt", 2, position, problems), position, problems)
    localization, boxes, masks = folder / "localization.txt", None, None
    if _names_masks(localization):
        masks = _masks(read_table(localization, 2, position, problems), position, problems)
    elif localization.exists():
        boxes = _boxes(read_table(localization, 4, position, problems), position, sizes, problems)
    return Metadata(ids, labels, sizes, boxes, masks, num_classes)


def count_classes(folder: pathlib.Path, problems: Problems) -> int:
    """One more than the largest label in the text files of all splits below a folder."""
    largest = -1
    for path in sorted(folder.glob("*/class_labels.txt")):
        values, whole = read_table(path, 1, (), Problems()).integers()
        largest = max(largest, int(values[whole].max(initial=-1)))
    if largest < 0:
        raise problems.stop(folder, "no class_labels.txt with a label below it")
    return largest + 1


def report_unlocalized(metadata: Metadata, file: pathlib.Path, problems: Problems) -> None:
    """An error for every image that has neither box nor mask, and no other error, which may be why."""
    told = problems.images()
    for row in np.flatnonzero(~metadata.localized()).tolist():
        image_id = metadata.image_ids[row]
        if image_id not in told:
            problems.error(file, f"no box or mask of {image_id}", image_id=image_id)


def fitting(boxes: Int[np.ndarray, "m 4"], sizes: Int[np.ndarray, "m 2"]) -> Bool[np.ndarray, " m"]:
    """Which boxes obey `BOX_RULE`; a width and height of 0 is not known."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.all((low >= 0) & (low < high) & ((high <= sizes) | (sizes == 0)), axis=1)


def grouped(boxes: Int[np.ndarray, "m 4"], rows: Int[np.ndarray, " m"], count: int) -> list[Int[np.ndarray, "_ 4"]]:
    """The boxes of each of `count` images, in their order, by the row of each box's image."""
    boxes = boxes[np.argsort(rows, kind="stable")]
    return np.split(boxes, np.cumsum(np.bincount(rows, minlength=count))[:-1])


def _image_ids(path: pathlib.Path, problems: Problems) -> list[str]:
    table = read_table(path, 0, (), problems)
    if not table.ids:
        raise problems.stop(path, "lists no images")
    reasons = refused(table.ids)
    unique = list(dict.fromkeys(table.ids))
    if reasons or len(unique) < len(table.ids):
        seen = set()
        for image_id, number in zip(table.ids, table.numbers, strict=True):
            if image_id in reasons:
                problems.error(path, f"{reasons[image_id]}: {image_id}", line=number, image_id=image_id)
            if image_id in seen:
                problems.error(path, f"{image_id} is there more than once", line=number, image_id=image_id)
            seen.add(image_id)
    return unique


def _labels(table: TextTable, position: dict[str, int], num_classes: int, problems: Problems) -> Int[np.ndarray, " n"]:
    rows = _rows_of(table, position, problems)
    _check_once(table, rows, position, problems)
    values, whole = table.integers()
    table.report(whole, "label is not an integer", problems)
    inside = (values[:, 0] >= 0) & (values[:, 0] < num_classes)
    table.report(inside | ~whole, f"label must be in [0, {num_classes}), by data.num_classes", problems)
    good = whole & inside & (rows >= 0)
    labels = np.full(len(position), -1, np.int32)
    labels[rows[good]] = values[good, 0]
    return labels


def _sizes(table: TextTable, position: dict[str, int], problems: Problems) -> Int[np.ndarray, "n 2"] | None:
    if not table.ids:
        return None
    rows = _rows_of(table, position, problems)
    _check_once(table, rows, position, problems)
    values, whole = table.integers()
    table.report(whole, "size is not an integer", problems)
    positive = np.all(values > 0, axis=1)
    table.report(positive | ~whole, "width and height must be positive", problems)
    good = whole & positive & (rows >= 0)
    sizes = np.zeros((len(position), 2), np.int32)
    sizes[rows[good]] = values[good]
    return sizes


def _boxes(
    table: TextTable, position: dict[str, int], sizes: Int[np.ndarray, "n 2"] | None, problems: Problems
) -> list[Int[np.ndarray, "_ 4"]] | None:
    if not table.ids:
        return None
    if sizes is None:
        raise problems.stop(table.path, "boxes cannot be used without image_sizes.txt, which is empty")
    rows = _rows_of(table, position, problems)
    boxes, whole = table.integers()
    table.report(whole, "box corner is not an integer", problems)
    fits = fitting(boxes, sizes[rows])
    table.report(fits | ~whole | (rows < 0), BOX_RULE, problems)
    good = whole & fits & (rows >= 0)
    return grouped(boxes[good], rows[good], len(position))


def _masks(table: TextTable, position: dict[str, int], problems: Problems) -> list[MaskFiles]:
    rows = _rows_of(table, position, problems)
    masks, undecided = table.fields[::2], table.fields[1::2]
    table.report(np.array([bool(mask) for mask in masks], bool), "no mask", problems)
    outside = refused(filter(None, table.fields))
    inside = [mask not in outside and other not in outside for mask, other in zip(masks, undecided, strict=True)]
    table.report(np.array(inside, bool), "path that leads out of the image folder", problems)
    instances: list[list[str]] = [[] for _ in position]
    ignores: list[str | None] = [None] * len(position)
    for row, mask, ignore in zip(rows.tolist(), masks, undecided, strict=True):
        if row >= 0:
            instances[row].append(mask)
            ignores[row] = ignore or ignores[row]
    return [MaskFiles(tuple(some), ignore) for some, ignore in zip(instances, ignores, strict=True)]


def _names_masks(path: pathlib.Path) -> bool:
    """Boxes and masks share the name of their file; its first line tells which it holds."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            fields = file.readline().rstrip("\n").rsplit(",", 2)
    except OSError:  # told by whoever reads all of it
        return False
    return len(fields) == 3 and fields[1].lower().endswith(".png")


def _rows_of(table: TextTable, position: dict[str, int], problems: Problems) -> Int[np.ndarray, " m"]:
    """Position of each line's image in the split; -1 for those that it does not have."""
    rows = np.array([position.get(image_id, -1) for image_id in table.ids], np.int64)
    for line in np.flatnonzero(rows < 0).tolist():
        image_id = table.ids[line]
        text = f"image_ids.txt does not list {image_id}"
        problems.error(table.path, text, line=table.numbers[line], image_id=image_id)
    return rows


def _check_once(table: TextTable, rows: Int[np.ndarray, " m"], position: dict[str, int], problems: Problems) -> None:
    """Every image must have one line."""
    counts = np.bincount(rows[rows >= 0], minlength=len(position))
    if np.any(counts == 0):
        told = problems.images()
        for image_id, count in zip(position, counts.tolist(), strict=True):
            if not count and image_id not in told:
                problems.error(table.path, f"no line for {image_id}, which image_ids.txt lists", image_id=image_id)
    if counts.max() > 1:
        seen: set[str] = set()
        for image_id, number in zip(table.ids, table.numbers, strict=True):
            if image_id in seen:
                text = f"{image_id} is there more than once"
                problems.error(table.path, text, line=number, image_id=image_id)
            seen.add(image_id)
