"""CUB-200-2011 as it is downloaded: tables by the numbers of the images, beside the folder ``images``.

In: `images.txt`, `image_class_labels.txt` and, where they are there, `train_test_split.txt`, `bounding_boxes.txt`,
`classes.txt` and masks in `segmentations`. Out: all images. Of every class, a fifth of those for training is val.
"""

import pathlib

from fcam_jax.data.layouts.entries import Content, Entry, all_or_no_masks, divide, layout, size_of
from fcam_jax.data.layouts.metadata import Masks, Place
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.tree import absent
from fcam_jax.runtime.files import read_text

_IMAGES, _LABELS, _CLASSES = "images.txt", "image_class_labels.txt", "classes.txt"
_SPLITS, _BOXES = "train_test_split.txt", "bounding_boxes.txt"
_TABLES = (_IMAGES, _LABELS, _CLASSES, _SPLITS, _BOXES)
_FIFTH = ("val", "train", "train", "train", "train")


def present(root: pathlib.Path) -> bool:
    """Whether a folder is that of CUB's archive."""
    return (root / _IMAGES).is_file() and (root / _LABELS).is_file()


def read(place: Place, problems: Problems) -> Content:
    """All images. Raises InputError: a table cannot be read, or names other images than the first."""
    root = place.metadata
    tables = {name: _table(root / name, problems) for name in _TABLES if (root / name).is_file()}
    names, splits, boxes = tables[_IMAGES], tables.get(_SPLITS), tables.get(_BOXES, {})
    for name, table in tables.items():
        if name != _CLASSES and table.keys() != names.keys():
            other = min(table.keys() ^ names.keys())
            raise problems.stop(root / name, f"has other images than {_IMAGES}, such as number {other[:20]}")
    classes = {int(key): name for key, name in tables.get(_CLASSES, {}).items()}
    masks = {key: f"segmentations/{pathlib.PurePosixPath(name).with_suffix('.png')}" for key, name in names.items()}
    missing = absent(root, masks.values()) if (root / "segmentations").is_dir() else set(masks.values())
    entries = []
    for key, name in names.items():
        label = tables[_LABELS][key]
        if not _is_number(label):
            raise problems.stop(root / _LABELS, f"label is not an integer: {label[:80]!r}")
        called = classes.setdefault(int(label), pathlib.PurePosixPath(name).parent.name or label)
        entry = Entry(
            root / _IMAGES,
            name,
            f"images/{name}",
            "" if splits is None else "train" if splits[key] == "1" else "test",
            size_of(root / "images" / name, place.upright),
            [called],
            [_box(root / _BOXES, boxes[key], problems)] if boxes else [],
            Masks(() if masks[key] in missing else (masks[key],)),
        )
        entries.append(entry)
    if splits is not None:
        training = [entry for entry in entries if entry.split == "train"]
        for entry, split in zip(training, divide([entry.classes[0] for entry in training], _FIFTH), strict=True):
            entry.split = split
        text = "names no val split: of every class a fifth of the training images is taken for it, by seed 0"
        problems.warn(root / _SPLITS, text)
    all_or_no_masks(root, entries, problems)
    return Content(root, entries, [classes[label] for label in sorted(classes)], "xywh")


def _table(path: pathlib.Path, problems: Problems) -> dict[str, str]:
    """The rest of each line by the number that it begins with."""
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        key, _, value = line.strip().partition(" ")
        if line.strip() and (not _is_number(key) or not value or key in found):
            raise problems.stop(path, f"must have a number of its own and a value: {line[:80]!r}", line=number)
        if line.strip():
            found[key] = value.strip()
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _box(path: pathlib.Path, value: str, problems: Problems) -> list[float]:
    try:
        x, y, width, height = map(float, value.split())
    except ValueError:
        raise problems.stop(path, f"a box must be x y width height: {value[:80]!r}") from None
    return [x, y, width, height]


LAYOUT = layout(
    present,
    read,
    sign=f"{_IMAGES} beside {_LABELS} (CUB-200-2011)",
    foreign="is read as the download of CUB-200-2011",
    mask_threshold=127.0,  # they hold the shares of five annotators, and most must agree
)
