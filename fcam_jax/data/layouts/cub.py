"""CUB-200-2011 as it is downloaded: tables by the numbers of the images, beside the folder ``images``.

In: `images.txt`, `image_class_labels.txt` and, where they are there, `train_test_split.txt`, `bounding_boxes.txt`,
`classes.txt` and masks in `segmentations`. Out: all images. Of every class, a fifth of those for training is val.
"""

import pathlib
from collections.abc import Mapping

from fcam_jax.data.layouts.metadata import Masks, Place
from fcam_jax.data.layouts.paths import absent
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.whole import Entry, Whole, divide, layout, size_of
from fcam_jax.runtime.files import read_text

_IMAGES, _LABELS = "images.txt", "image_class_labels.txt"
_FIFTH = ("val", "train", "train", "train", "train")


def present(root: pathlib.Path) -> bool:
    """Whether a folder is that of CUB's archive."""
    return (root / _IMAGES).is_file() and (root / _LABELS).is_file()


def read(place: Place, problems: Problems) -> Whole:
    """All images.

    Raises:
      InputError: a table cannot be read, or names other images than the first.
    """
    root = place.metadata
    names = _table(root / _IMAGES, problems)
    labels = {key: _number(root / _LABELS, value, problems) for key, value in _of(names, root / _LABELS, problems)}
    listed = _table(root / "classes.txt", problems) if (root / "classes.txt").is_file() else {}
    classes = {int(key): name for key, name in listed.items()}
    for key, label in labels.items():
        classes.setdefault(label, pathlib.PurePosixPath(names[key]).parent.name or str(label))
    entries = {
        key: Entry(root / _IMAGES, name, f"images/{name}", classes=[classes[labels[key]]])
        for key, name in names.items()
    }
    _split(entries, root / "train_test_split.txt", problems)
    path = root / "bounding_boxes.txt"
    for key, value in _of(names, path, problems) if path.is_file() else ():
        entries[key].boxes = [_box(path, value, problems)]
    masks = {key: f"segmentations/{pathlib.PurePosixPath(name).with_suffix('.png')}" for key, name in names.items()}
    missing = absent(root, masks.values()) if (root / "segmentations").is_dir() else set(masks.values())
    for key, entry in entries.items():
        entry.size = size_of(root / entry.path, place.upright)
        entry.masks = Masks() if masks[key] in missing else Masks((masks[key],))
    return Whole(root, list(entries.values()), [classes[label] for label in sorted(classes)], "xywh")


def _split(entries: dict[str, Entry], path: pathlib.Path, problems: Problems) -> None:
    if not path.is_file():
        return
    given = {key: ("test", "train")[value == "1"] for key, value in _of(entries, path, problems)}
    training = [key for key in entries if given[key] == "train"]
    given |= zip(training, divide([entries[key].classes[0] for key in training], _FIFTH), strict=True)
    for key, entry in entries.items():
        entry.split = given[key]
    problems.warn(path, "names no val split: of every class a fifth of the training images is taken for it, by seed 0")


def _of(names: Mapping[str, object], path: pathlib.Path, problems: Problems) -> list[tuple[str, str]]:
    """The values of all images in a table.

    Raises:
      InputError: it has other images.
    """
    values = _table(path, problems)
    if values.keys() != names.keys():
        other = min(values.keys() ^ names.keys())
        raise problems.stop(path, f"has other images than {_IMAGES}, such as number {other[:20]}")
    return list(values.items())


def _table(path: pathlib.Path, problems: Problems) -> dict[str, str]:
    """The rest of each line by the number that it begins with.

    Raises:
      InputError: it cannot be read, or a line begins with no number, or with one that is there already.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        key, _, value = line.strip().partition(" ")
        if line.strip() and (not (key.isascii() and key.isdigit() and len(key) < 10) or not value or key in found):
            raise problems.stop(path, f"must have a number of its own and a value: {line[:80]!r}", line=number)
        if line.strip():
            found[key] = value.strip()
    return found


def _number(path: pathlib.Path, value: str, problems: Problems) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise problems.stop(path, f"label is not an integer: {value[:80]!r}")
    return int(value)


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
