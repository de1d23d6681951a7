"""Text files in the format of Choe et al. (CVPR 2020), in a folder for each split.

In: `image_ids.txt`, `class_labels.txt`, `image_sizes.txt` and `localization.txt`, each line an image id and a fixed
number of fields, separated by commas; ids may hold spaces and commas, and line ends of every system, a byte order mark
and empty lines are understood. Out: `Metadata` in the order of the image ids.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.data.layouts.boxes import BOX_RULE, of_images
from fcam_jax.data.layouts.metadata import Layout, Masks, Metadata, Place, folder_names, report_unlocalized
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.tree import refused
from fcam_jax.data.source import SPLITS
from fcam_jax.runtime.files import read_text

LOCALIZATION, SIZES = "localization.txt", "image_sizes.txt"
_INTEGER = re.compile(r"-?[0-9]{1,10}")


def splits(metadata: pathlib.Path) -> tuple[str, ...]:
    """The splits that have a folder."""
    return tuple(split for split in SPLITS if (metadata / split).is_dir())


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split, their classes called as their folders."""
    place.needs(split, splits(place.metadata))
    count = num_classes
    if not count:
        files = sorted(place.metadata.glob("*/class_labels.txt"))
        labels = [_Table(path, 1, {}, Problems()).integers("label")[0] for path in files]
        count = 1 + max((int(some.max(initial=-1)) for some in labels), default=-1)
        if not count:
            raise problems.stop(place.metadata, "no class_labels.txt with a label below it")
    metadata = read_split(place.metadata / split, count, problems, form=place.boxes or "corners")
    return dataclasses.replace(metadata, class_names=folder_names(metadata.image_ids, metadata.labels, count))


def read_metadata(folder: pathlib.Path, num_classes: int, needs_localization: bool) -> Metadata:
    """Read the text files of a split, all of which must be right, see `read_split`; `needs_localization`: every image
    must have a box or mask, as evaluation needs it. Raises InputError: for the first thing that is wrong.
    """
    problems = Problems()
    metadata = read_split(folder, num_classes, problems)
    if needs_localization:
        read_text(folder / LOCALIZATION)
        hint = "; unlocalized=allow if there is no object in it"
        report_unlocalized(metadata, folder / LOCALIZATION, problems, hint)
    problems.settle()
    return metadata


def read_split(
    folder: pathlib.Path, num_classes: int, problems: Problems, unsized: bool = False, form: str = "corners"
) -> Metadata:
    """Read and check the text files of a split.

    Args:
      folder: holds the four files. An empty `image_sizes.txt` says that the sizes are not known, an empty
        `localization.txt` or none that there are neither boxes nor masks.
      num_classes: labels must be below it.
      problems: is told of lines that cannot be read, ids that are not in all files, or are there twice, or lead out of
        the image folder, labels out of range, boxes outside their image.
      unsized: no `image_sizes.txt` is as good as an empty one.
      form: of the boxes, one of `boxes.FORMS`.

    Raises:
      InputError: a file is missing or empty or not text.
    """
    table = _Table(folder / "image_ids.txt", 0, {}, problems)
    if not table.ids:
        raise problems.stop(table.path, "lists no images")
    reasons = refused(table.ids)
    for line, image_id in enumerate(table.ids) if reasons else ():
        if image_id in reasons:
            table.error(line, f"{reasons[image_id]}: {image_id}")
    table.refuse_twice()
    position = {image_id: row for row, image_id in enumerate(dict.fromkeys(table.ids))}
    rule = f"label must be in [0, {num_classes}), by data.num_classes"
    labels = _Table(folder / "class_labels.txt", 1, position, problems).of_images("label", range(num_classes), rule)
    sizes = boxes = masks = None
    if (folder / SIZES).exists() or not unsized:
        table = _Table(folder / SIZES, 2, position, problems)
        rule = "width and height must be positive"
        sizes = np.maximum(table.of_images("size", range(1, 2**31 - 1), rule), 0) if table.ids else None
    if (file := folder / LOCALIZATION).exists():
        first = _lines(file)[0].rsplit(",", 2)  # boxes and masks share the name of their file
        if len(first) == 3 and first[1].lower().endswith(".png"):
            masks = _masks(_Table(file, 2, position, problems))
        else:
            boxes = _boxes(_Table(file, 4, position, problems), sizes, form)
    return Metadata(list(position), labels[:, 0], sizes, boxes, masks, num_classes)


def _lines(path: pathlib.Path) -> list[str]:
    return read_text(path).replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")


class _Table:
    """The lines of a text file that have the right number of fields: `ids`, `fields` and `numbers` of the lines.

    The fields of all lines are one flat list: a list for every line makes a million lines several times slower.
    """

    def __init__(self, path: pathlib.Path, columns: int, position: Mapping[str, int], problems: Problems):
        """A line that cannot be read is an error of the image that it begins with, if `position` has it."""
        self.path, self.columns, self.position, self.problems = path, columns, position, problems
        self.ids: list[str] = []
        self.fields: list[str] = []
        self.numbers: list[int] = []
        for number, line in enumerate(_lines(path), 1):
            image_id, *fields = line.rsplit(",", columns)
            if len(fields) == columns and image_id:
                self.ids.append(image_id)
                self.fields.extend(fields)
                self.numbers.append(number)
            elif line.strip():
                parts = line.split(",")
                starts = (",".join(parts[:count]) for count in range(len(parts), 0, -1))
                owner = next((start for start in starts if start in position), None)
                text = f"expected an id and {columns} field(s): {line!r}"
                problems.error(path, text, line=number, image_id=owner)

    def error(self, line: int, text: str) -> None:
        self.problems.error(self.path, text, line=self.numbers[line], image_id=self.ids[line])

    def refuse(self, wrong: list[bool] | Bool[np.ndarray, " m"], rule: str) -> None:
        """An error for every line that is wrong."""
        for line in np.flatnonzero(wrong).tolist():
            fields = self.fields[line * self.columns : (line + 1) * self.columns]
            self.error(line, f"{rule}: {','.join([self.ids[line], *fields])!r}")

    def refuse_twice(self) -> None:
        """An error for every id after its first line."""
        seen: set[str] = set()
        for line, image_id in enumerate(self.ids if len(set(self.ids)) < len(self.ids) else ()):
            if image_id in seen:
                self.error(line, f"{image_id} is there more than once")
            seen.add(image_id)

    def rows(self) -> Int[np.ndarray, " m"]:
        """The position of each line's image; -1 for those that are none."""
        rows = np.array([self.position.get(image_id, -1) for image_id in self.ids], np.int64)
        for line in np.flatnonzero(rows < 0).tolist():
            self.error(line, f"image_ids.txt does not list {self.ids[line]}")
        return rows

    def integers(self, what: str) -> tuple[Int[np.ndarray, "m columns"], Bool[np.ndarray, " m"]]:
        """The fields as numbers, -1 where one of the line is no integer of 32 bits, and which lines have them."""
        fits = [_INTEGER.fullmatch(text) is not None and abs(int(text)) < 2**31 for text in self.fields]
        whole = np.all(np.reshape(fits, (-1, self.columns)), axis=1)
        self.refuse(~whole, f"{what} is not an integer")
        pairs = zip(self.fields, fits, strict=True)
        return np.reshape([int(text) if fit else -1 for text, fit in pairs], (-1, self.columns)).astype(np.int32), whole

    def of_images(self, what: str, allowed: range, rule: str) -> Int[np.ndarray, "n columns"]:
        """The numbers of each image, which has one line; -1 where they are none."""
        rows = self.rows()
        found = np.bincount(rows[rows >= 0], minlength=len(self.position)) > 0
        told = self.problems.images()
        for image_id, there in zip(self.position, found.tolist(), strict=True):
            if not there and image_id not in told:
                self.problems.error(self.path, f"no line for {image_id}, which image_ids.txt lists", image_id=image_id)
        self.refuse_twice()
        values, whole = self.integers(what)
        inside = np.all((values >= allowed.start) & (values < allowed.stop), axis=1)
        self.refuse(whole & ~inside, rule)
        good = whole & inside & (rows >= 0)
        numbers = np.full((len(self.position), self.columns), -1, np.int32)
        numbers[rows[good]] = values[good]
        return numbers


def _boxes(table: _Table, sizes: Int[np.ndarray, "n 2"] | None, form: str) -> list[Int[np.ndarray, "_ 4"]] | None:
    if not table.ids:
        return None
    if sizes is None:
        raise table.problems.stop(table.path, "boxes cannot be used without image_sizes.txt, which is empty")
    rows = table.rows()
    values, whole = table.integers("box corner")
    usable = np.flatnonzero(whole & (rows >= 0))
    boxes, fits = of_images(values[usable].astype(np.float64), rows[usable], sizes, form, table.path, table.problems)
    table.refuse(np.isin(np.arange(len(rows)), usable[~fits]), BOX_RULE)
    return boxes


def _masks(table: _Table) -> list[Masks]:
    rows = table.rows()
    masks, undecided = table.fields[::2], table.fields[1::2]
    table.refuse([not mask for mask in masks], "no mask")
    outside = refused(filter(None, table.fields))
    wrong = [mask in outside or other in outside for mask, other in zip(masks, undecided, strict=True)]
    table.refuse(wrong, "path that leads out of the image folder")
    instances: list[list[str]] = [[] for _ in table.position]
    ignores: list[tuple[str, ...]] = [()] * len(table.position)
    for row, mask, ignore in zip(rows.tolist(), masks, undecided, strict=True):
        if row >= 0:
            instances[row].append(mask)
            ignores[row] = (ignore,) if ignore else ignores[row]
    return [Masks(tuple(some), ignore) for some, ignore in zip(instances, ignores, strict=True)]


LAYOUT = Layout(
    splits,
    read,
    sign="metadata/train/image_ids.txt",
    localization=lambda place, split: place.metadata / split / LOCALIZATION,
    below=("images", "metadata"),
)
