"""The text files that describe a split in the format of Choe et al. (CVPR 2020), read and checked as a whole.

In: a folder with `image_ids.txt`, `class_labels.txt`, `image_sizes.txt` and `localization.txt`. Out: `Metadata`, in the
order of the image ids. Ids may hold spaces and commas; line ends of every system are understood.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.errors import InputError

_SHOWN = 10  # ids or paths that a message lists before it only counts


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
    """What the text files say of the images of a split.

    Attributes:
      image_ids: keys of the images, which are paths relative to the image folder.
      labels: class of each image, from 0.
      sizes: width and height of each image, or None where `image_sizes.txt` is empty.
      boxes: boxes of each image in its own pixels; None where there are none.
      masks: mask files of each image; None where there are none.
    """

    image_ids: list[str]
    labels: Int[np.ndarray, " n"]
    sizes: Int[np.ndarray, "n 2"] | None
    boxes: list[Int[np.ndarray, "_ 4"]] | None = None
    masks: list[MaskFiles] | None = None


@dataclasses.dataclass(frozen=True)
class _Table:
    """The lines of a text file: an id, then a fixed number of fields.

    The fields of all lines are one flat list: a list for every line makes a million lines several times slower.
    """

    path: pathlib.Path
    columns: int
    ids: list[str]
    fields: list[str]


def read_metadata(folder: pathlib.Path, num_classes: int, needs_localization: bool) -> Metadata:
    """Read and check the text files of a split.

    Args:
      folder: holds the four files. An empty `image_sizes.txt` says that the sizes are not known, an empty
        `localization.txt` that there are neither boxes nor masks.
      num_classes: labels must be below it.
      needs_localization: every image must have a box or mask, as evaluation needs it.

    Raises:
      InputError: for the first thing that is wrong: missing files, lines that cannot be read, ids that are not in all
        files, or are there twice, or lead out of the image folder, labels out of range, boxes outside their image.
    """
    ids = _table(folder / "image_ids.txt", columns=0)
    if not ids.ids:
        raise InputError(f"{ids.path}: lists no images")
    _check_inside(ids.path, ids.ids)
    position = {image_id: index for index, image_id in enumerate(ids.ids)}
    if len(position) != len(ids.ids):
        repeated = [image_id for index, image_id in enumerate(ids.ids) if position[image_id] != index]
        raise InputError(f"{ids.path}: ids that are there more than once: {listed(repeated)}")
    labels = _labels(_table(folder / "class_labels.txt", columns=1), position, num_classes)
    sizes = _sizes(_table(folder / "image_sizes.txt", columns=2), position)
    localization = folder / "localization.txt"
    if _names_masks(localization):
        masks = _masks(_table(localization, columns=2), position, needs_localization)
        return Metadata(ids.ids, labels, sizes, masks=masks)
    boxes = _boxes(_table(localization, columns=4), position, sizes, needs_localization)
    return Metadata(ids.ids, labels, sizes, boxes=boxes)


def listed(names: Sequence[str]) -> str:
    """The first few names and the number of the others, for a message."""
    others = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + others


def _labels(table: _Table, position: dict[str, int], num_classes: int) -> Int[np.ndarray, " n"]:
    rows = _rows_of(table, position)
    _check_once(table, rows, position)
    values = _integers(table, "label")[:, 0]
    _check_lines(
        table, (values >= 0) & (values < num_classes), f"label must be in [0, {num_classes}), by data.num_classes"
    )
    labels = np.empty(len(position), np.int32)
    labels[rows] = values
    return labels


def _sizes(table: _Table, position: dict[str, int]) -> Int[np.ndarray, "n 2"] | None:
    if not table.ids:
        return None
    rows = _rows_of(table, position)
    _check_once(table, rows, position)
    values = _integers(table, "size")
    _check_lines(table, np.all(values > 0, axis=1), "width and height must be positive")
    sizes = np.empty((len(position), 2), np.int32)
    sizes[rows] = values
    return sizes


def _boxes(
    table: _Table, position: dict[str, int], sizes: Int[np.ndarray, "n 2"] | None, needed: bool
) -> list[Int[np.ndarray, "_ 4"]] | None:
    if not table.ids and not needed:
        return None
    rows = _rows_of(table, position)
    if needed:
        _check_all(table, rows, position)
    if sizes is None:
        raise InputError(f"{table.path}: boxes cannot be used without image_sizes.txt, which is empty")
    boxes = _integers(table, "box corner")
    low, high = boxes[:, :2], boxes[:, 2:]
    fits = np.all((low >= 0) & (low < high) & (high <= sizes[rows]), axis=1)
    _check_lines(table, fits, "box must have 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height of its image")
    boxes = boxes[np.argsort(rows, kind="stable")]
    return np.split(boxes, np.cumsum(np.bincount(rows, minlength=len(position)))[:-1])


def _masks(table: _Table, position: dict[str, int], needed: bool) -> list[MaskFiles]:
    rows = _rows_of(table, position)
    if needed:
        _check_all(table, rows, position)
    _check_inside(table.path, table.fields)
    instances: list[list[str]] = [[] for _ in position]
    ignores: list[str | None] = [None] * len(position)
    for row, mask, ignore in zip(rows, table.fields[::2], table.fields[1::2], strict=True):
        instances[row].append(mask)
        ignores[row] = ignore or ignores[row]
    return [MaskFiles(tuple(masks), ignore) for masks, ignore in zip(instances, ignores, strict=True)]


def _table(path: pathlib.Path, columns: int) -> _Table:
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except FileNotFoundError:
        raise InputError(f"{path}: no such metadata file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from error
    table = _Table(path, columns, [], [])
    for number, line in enumerate(text.split("\n") if text else (), 1):
        image_id, *fields = line.rsplit(",", columns)
        if len(fields) != columns or not image_id:
            raise InputError(f"{path}, line {number}: expected an id and {columns} field(s): {line!r}")
        table.ids.append(image_id)
        table.fields.extend(fields)
    return table


def _names_masks(path: pathlib.Path) -> bool:
    """Boxes and masks share the name of their file; its first line tells which it holds."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        fields = file.readline().rstrip("\n").rsplit(",", 2)
    return len(fields) == 3 and fields[1].lower().endswith(".png")


def _rows_of(table: _Table, position: dict[str, int]) -> Int[np.ndarray, " m"]:
    """Position of each line's image in the split."""
    unknown = [image_id for image_id in table.ids if image_id not in position]
    if unknown:
        raise InputError(f"{table.path}: ids that image_ids.txt does not have: {listed(unknown)}")
    return np.array([position[image_id] for image_id in table.ids], np.int64)


def _check_all(table: _Table, rows: Int[np.ndarray, " m"], position: dict[str, int]) -> None:
    counts = np.bincount(rows, minlength=len(position))
    if not counts.all():
        missing = [image_id for image_id, count in zip(position, counts, strict=True) if not count]
        raise InputError(f"{table.path}: no line for ids of image_ids.txt: {listed(missing)}")


def _check_once(table: _Table, rows: Int[np.ndarray, " m"], position: dict[str, int]) -> None:
    _check_all(table, rows, position)
    counts = np.bincount(rows, minlength=len(position))
    if counts.max() > 1:
        repeated = [image_id for image_id, count in zip(position, counts, strict=True) if count > 1]
        raise InputError(f"{table.path}: ids that are there more than once: {listed(repeated)}")


def _check_inside(path: pathlib.Path, names: Iterable[str]) -> None:
    """Relative paths must stay below the folder that they start from."""
    outside = [name for name in names if name.startswith("/") or (".." in name and ".." in name.split("/"))]
    if outside:
        raise InputError(f"{path}: paths that lead out of the image folder: {listed(outside)}")


def _integers(table: _Table, what: str) -> Int[np.ndarray, "m columns"]:
    try:
        values = np.array(list(map(int, table.fields)), np.int32)
    except (ValueError, OverflowError):
        fits = np.array(list(map(_is_integer, table.fields))).reshape(-1, table.columns)
        _check_lines(table, np.all(fits, axis=1), f"{what} is not an integer")
        raise
    return values.reshape(-1, table.columns)


def _is_integer(text: str) -> bool:
    try:
        return abs(int(text)) < 2**31
    except ValueError:
        return False


def _check_lines(table: _Table, good: Bool[np.ndarray, " m"], rule: str) -> None:
    if not good.all():
        first = int(np.argmin(good))
        others = np.count_nonzero(~good) - 1
        fields = table.fields[first * table.columns : (first + 1) * table.columns]
        more = f" (and {others} more lines)" if others else ""
        raise InputError(f"{table.path}, line {first + 1}: {rule}: {','.join([table.ids[first], *fields])!r}{more}")
