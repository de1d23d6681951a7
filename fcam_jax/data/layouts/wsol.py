"""Text files in the format of Choe et al. (CVPR 2020), in a folder for each split.

In: `image_ids.txt`, `class_labels.txt`, `image_sizes.txt` and `localization.txt`, each line an image id and a fixed
number of fields, separated by commas; ids may hold spaces and commas, and line ends of every system, a byte order mark
and empty lines are understood. Out: `Metadata` in the order of the image ids.
"""

import dataclasses
import pathlib
import re
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.data.layouts.boxes import BOX_RULE, corners, grouped, in_pixels
from fcam_jax.data.layouts.metadata import Layout, Masks, Metadata, Place, folder_names, report_unlocalized
from fcam_jax.data.layouts.paths import refused
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.source import SPLITS
from fcam_jax.runtime.files import open_text

_LOCALIZATION = "localization.txt"
_INTEGER = re.compile(r"-?[0-9]{1,18}")


def splits(metadata: pathlib.Path) -> tuple[str, ...]:
    """The splits that have a folder."""
    return tuple(split for split in SPLITS if (metadata / split).is_dir())


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split, their classes called as their folders."""
    place.needs(split, splits(place.metadata))
    count = num_classes or _count_classes(place.metadata, problems)
    metadata = read_split(place.metadata / split, count, problems, form=place.boxes or "corners")
    return dataclasses.replace(metadata, class_names=folder_names(metadata.image_ids, metadata.labels, count))


def read_metadata(folder: pathlib.Path, num_classes: int, needs_localization: bool) -> Metadata:
    """Read the text files of a split, all of which must be right; see `read_split`.

    Args:
      folder: holds the four files.
      num_classes: labels must be below it.
      needs_localization: every image must have a box or mask, as evaluation needs it.

    Raises:
      InputError: for the first thing that is wrong.
    """
    problems = Problems()
    metadata = read_split(folder, num_classes, problems)
    if needs_localization:
        _text(folder / _LOCALIZATION, problems)
        report_unlocalized(
            metadata, folder / _LOCALIZATION, problems, "; unlocalized=allow if there is no object in it"
        )
    problems.raise_first()
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
    ids = _image_ids(folder / "image_ids.txt", problems)
    position = {image_id: index for index, image_id in enumerate(ids)}
    labels = _labels(_Table.read(folder / "class_labels.txt", 1, position, problems), num_classes)
    file, sizes, boxes, masks = folder / "image_sizes.txt", None, None, None
    if file.exists() or not unsized:
        sizes = _sizes(_Table.read(file, 2, position, problems))
    file = folder / _LOCALIZATION
    if _names_masks(file):
        masks = _masks(_Table.read(file, 2, position, problems))
    elif file.exists():
        boxes = _boxes(_Table.read(file, 4, position, problems), sizes, form)
    return Metadata(ids, labels, sizes, boxes, masks, num_classes)


@dataclasses.dataclass(frozen=True)
class _Table:
    """The lines of a text file that have the right number of fields, and what is wrong with them.

    The fields of all lines are one flat list: a list for every line makes a million lines several times slower.

    Attributes:
      path: the file.
      columns: number of fields of a line.
      position: of each image in the split, by its id.
      problems: is told of lines that are wrong.
      ids: the id of each line.
      fields: of all lines.
      numbers: of the lines, from 1.
    """

    path: pathlib.Path
    columns: int
    position: Mapping[str, int]
    problems: Problems
    ids: list[str] = dataclasses.field(default_factory=list)
    fields: list[str] = dataclasses.field(default_factory=list)
    numbers: list[int] = dataclasses.field(default_factory=list)

    @classmethod
    def read(cls, path: pathlib.Path, columns: int, position: Mapping[str, int], problems: Problems) -> "_Table":
        """A line that cannot be read is an error of the image that it begins with."""
        table, text = cls(path, columns, position, problems), _text(path, problems).rstrip()
        for number, line in enumerate(text.split("\n") if text else (), 1):
            image_id, *fields = line.rsplit(",", columns)
            if len(fields) == columns and image_id:
                table.ids.append(image_id)
                table.fields.extend(fields)
                table.numbers.append(number)
            elif line.strip():
                problem = f"expected an id and {columns} field(s): {line!r}"
                problems.error(path, problem, line=number, image_id=_owner(line, position))
        return table

    def rows(self, once: bool = False) -> Int[np.ndarray, " m"]:
        """The position of each line's image; -1 for those that are none. `once`: every image must have one line."""
        rows = np.array([self.position.get(image_id, -1) for image_id in self.ids], np.int64)
        for line in np.flatnonzero(rows < 0).tolist():
            self._error(line, f"image_ids.txt does not list {self.ids[line]}")
        if once:
            missing = np.bincount(rows[rows >= 0], minlength=len(self.position)) == 0
            told = self.problems.images() if missing.any() else set()
            for image_id, lacks in zip(self.position, missing.tolist(), strict=True):
                if lacks and image_id not in told:
                    text = f"no line for {image_id}, which image_ids.txt lists"
                    self.problems.error(self.path, text, image_id=image_id)
            self.report_twice()
        return rows

    def report_twice(self) -> None:
        """An error for every id after its first line."""
        seen: set[str] = set()
        for line, image_id in enumerate(self.ids if len(set(self.ids)) < len(self.ids) else ()):
            if image_id in seen:
                self._error(line, f"{image_id} is there more than once")
            seen.add(image_id)

    def integers(self, what: str) -> tuple[Int[np.ndarray, "m columns"], Bool[np.ndarray, " m"]]:
        """The fields as numbers, and which lines hold nothing but integers of 32 bits; the others are errors."""
        try:
            plain = "".join(self.fields).replace("-", "")  # `int` takes more, such as 1_0 and digits of all scripts
            values = np.array(list(map(int, self.fields)), np.int32)
            if not (plain.isascii() and plain.isdigit()):
                raise ValueError
            whole = np.ones(len(self.ids), bool)
        except (ValueError, OverflowError):
            fits = np.array([_INTEGER.fullmatch(text) is not None and abs(int(text)) < 2**31 for text in self.fields])
            pairs = zip(self.fields, fits, strict=True)
            values = np.array([int(text) if fit else 0 for text, fit in pairs], np.int32)
            whole = np.all(fits.reshape(-1, self.columns), axis=1)
        self.report(whole, f"{what} is not an integer")
        return values.reshape(-1, self.columns), whole

    def report(self, good: Collection[bool] | Bool[np.ndarray, " m"], rule: str) -> None:
        """An error for every line that is not good."""
        for line in np.flatnonzero(~np.asarray(good, bool)).tolist():
            fields = self.fields[line * self.columns : (line + 1) * self.columns]
            self._error(line, f"{rule}: {','.join([self.ids[line], *fields])!r}")

    def _error(self, line: int, text: str) -> None:
        self.problems.error(self.path, text, line=self.numbers[line], image_id=self.ids[line])


def _text(path: pathlib.Path, problems: Problems) -> str:
    try:
        with open_text(path) as file:
            return file.read()
    except FileNotFoundError:
        raise problems.stop(path, "no such metadata file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise problems.stop(path, f"cannot be read as text: {error}") from error


def _owner(line: str, known: Mapping[str, int]) -> str | None:
    parts = line.split(",")
    starts = (",".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((start for start in starts if start in known), None)


def _count_classes(folder: pathlib.Path, problems: Problems) -> int:
    """One more than the largest label in the text files of all splits below a folder."""
    largest = -1
    for path in sorted(folder.glob("*/class_labels.txt")):
        values, whole = _Table.read(path, 1, {}, Problems()).integers("label")
        largest = max(largest, int(values[whole].max(initial=-1)))
    if largest < 0:
        raise problems.stop(folder, "no class_labels.txt with a label below it")
    return largest + 1


def _image_ids(path: pathlib.Path, problems: Problems) -> list[str]:
    table = _Table.read(path, 0, {}, problems)
    if not table.ids:
        raise problems.stop(path, "lists no images")
    reasons = refused(table.ids)
    for image_id, number in zip(table.ids, table.numbers, strict=True) if reasons else ():
        if image_id in reasons:
            problems.error(path, f"{reasons[image_id]}: {image_id}", line=number, image_id=image_id)
    table.report_twice()
    return list(dict.fromkeys(table.ids))


def _labels(table: _Table, num_classes: int) -> Int[np.ndarray, " n"]:
    rows = table.rows(once=True)
    values, whole = table.integers("label")
    inside = (values[:, 0] >= 0) & (values[:, 0] < num_classes)
    table.report(inside | ~whole, f"label must be in [0, {num_classes}), by data.num_classes")
    good = whole & inside & (rows >= 0)
    labels = np.full(len(table.position), -1, np.int32)
    labels[rows[good]] = values[good, 0]
    return labels


def _sizes(table: _Table) -> Int[np.ndarray, "n 2"] | None:
    if not table.ids:
        return None
    rows = table.rows(once=True)
    values, whole = table.integers("size")
    positive = np.all(values > 0, axis=1)
    table.report(positive | ~whole, "width and height must be positive")
    good = whole & positive & (rows >= 0)
    sizes = np.zeros((len(table.position), 2), np.int32)
    sizes[rows[good]] = values[good]
    return sizes


def _boxes(table: _Table, sizes: Int[np.ndarray, "n 2"] | None, form: str) -> list[Int[np.ndarray, "_ 4"]] | None:
    if not table.ids:
        return None
    if sizes is None:
        raise table.problems.stop(table.path, "boxes cannot be used without image_sizes.txt, which is empty")
    rows = table.rows()
    numbers, whole = table.integers("box corner")
    inside = whole & (rows >= 0)
    in_pixels(numbers[inside].astype(np.float64), form, sizes[rows[inside]], table.path, table.problems)
    boxes, fits = corners(numbers.astype(np.float64), form, sizes[rows])
    table.report(fits | ~whole | (rows < 0), BOX_RULE)
    good = whole & fits & (rows >= 0)
    return grouped(boxes[good], rows[good], len(table.position))


def _masks(table: _Table) -> list[Masks]:
    rows = table.rows()
    masks, undecided = table.fields[::2], table.fields[1::2]
    table.report(list(map(bool, masks)), "no mask")
    outside = refused(filter(None, table.fields))
    inside = [mask not in outside and other not in outside for mask, other in zip(masks, undecided, strict=True)]
    table.report(inside, "path that leads out of the image folder")
    instances: list[list[str]] = [[] for _ in table.position]
    ignores: list[tuple[str, ...]] = [()] * len(table.position)
    for row, mask, ignore in zip(rows.tolist(), masks, undecided, strict=True):
        if row >= 0:
            instances[row].append(mask)
            ignores[row] = (ignore,) if ignore else ignores[row]
    return [Masks(tuple(some), ignore) for some, ignore in zip(instances, ignores, strict=True)]


def _names_masks(path: pathlib.Path) -> bool:
    """Boxes and masks share the name of their file; its first line tells which it holds."""
    try:
        with open_text(path) as file:
            fields = file.readline().rstrip("\n").rsplit(",", 2)
    except (OSError, UnicodeDecodeError):  # told by whoever reads all of it
        return False
    return len(fields) == 3 and fields[1].lower().endswith(".png")


LAYOUT = Layout(
    splits,
    read,
    localization=lambda place, split: place.metadata / split / _LOCALIZATION,
    sign="metadata/train/image_ids.txt",
    below=("images", "metadata"),
)
