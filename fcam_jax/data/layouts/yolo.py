"""YOLO's layout: a text file for each image, ``labels/train/1.txt`` of ``images/train/1.jpg``, a line for each object.

In: the folder, and names of classes in `data.yaml` or `classes.txt`. Out: all images. A line is ``class x y width
height`` of the centre, or ``class x y x y x y ...`` of a polygon, as shares of the image. An image's class is the only
one of its objects.
"""

import pathlib
from collections.abc import Iterator, Mapping

import yaml

from fcam_jax.data.layouts.entries import Content, Entry, all_or_no_masks, layout, size_of
from fcam_jax.data.layouts.metadata import Masks, Place
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.regions import Region, parse_region
from fcam_jax.data.layouts.tree import SUFFIXES, listing, split_of, subfolders
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import read_text

_LARGEST = 4 << 20  # bytes of a text
_NAMES = ("classes.txt", "obj.names", "labels/classes.txt")


def present(root: pathlib.Path) -> bool:
    """Whether a folder has labels beside its images."""
    return any(_pairs(root))


def read(place: Place, problems: Problems) -> Content:
    """All images; `problems` is told of lines that cannot be read. Raises InputError: the names of the classes cannot
    be read.
    """
    root = place.metadata
    names, pose = _class_names(root, problems)
    entries = []
    for images, labels, split in _pairs(root):
        texts = listing(root / labels)
        for file in sorted(listing(root / images)):
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                path, text = f"{images}/{file}", f"{pathlib.PurePath(file).stem}.txt"
                entry = Entry(root / labels / text, path, path, split, size_of(root / path, place.upright))
                if text in texts:
                    _annotate(entry, names, pose, problems)
                entries.append(entry)
    if any(entry.split for entry in entries):
        others = sorted({str(pathlib.PurePath(entry.path).parent) for entry in entries if not entry.split})
        if others:
            problems.warn(root, f"folders that are called as no split are left alone: {', '.join(others)}")
        entries = [entry for entry in entries if entry.split]
    all_or_no_masks(root, entries, problems)
    largest = max((int(name) for entry in entries for name in entry.classes if not names), default=-1)
    classes = names.values() if names else map(str, range(min(largest, len(entries) * 100) + 1))
    return Content(root, entries, list(dict.fromkeys(classes)), "centre", shares=True)


def _pairs(root: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    """Folders of images and of their labels, and the split that they are of; empty where none is meant."""
    inside = subfolders(root)
    if "images" in inside and "labels" in inside:
        found = [(f"images/{name}", f"labels/{name}", name) for name in subfolders(root / "images")]
        found.append(("images", "labels", ""))
    else:
        found = [(f"{name}/images", f"{name}/labels", name) for name in inside]
        found += [(name, name, "") for name in inside if name == "obj_train_data"]
    for images, labels, name in found:
        if any(text.endswith(".txt") and text != "classes.txt" for text in listing(root / labels)):
            yield images, labels, split_of(name) or ""


def _class_names(root: pathlib.Path, problems: Problems) -> tuple[dict[int, str], bool]:
    """Names by number, none where no file has them; and whether points of a pose follow each box."""
    path = next((path for name in ("data.y*ml", "dataset.y*ml", "*.y*ml") for path in sorted(root.glob(name))), None)
    if path is not None:
        try:
            content = yaml.safe_load(read_text(path, _LARGEST))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise problems.stop(path, f"cannot be read as YAML: {' '.join(str(error).split())[:200]}") from error
        names = content.get("names") if isinstance(content, dict) else None
        found = names if isinstance(names, dict) else dict(enumerate(names)) if isinstance(names, list) else {}
        if not found or not all(type(number) is int for number in found):
            raise problems.stop(path, "must have the names of the classes, names: [owl, wren]")
        return {number: str(found[number]) for number in sorted(found)}, "kpt_shape" in content
    path = next((root / name for name in _NAMES if (root / name).is_file()), None)
    lines = read_text(path, _LARGEST).splitlines() if path is not None else []
    return dict(enumerate(line.strip() for line in lines if line.strip())), False


def _annotate(entry: Entry, names: Mapping[int, str], pose: bool, problems: Problems) -> None:
    objects = []
    try:
        if not all(entry.size):
            raise InputError("the size of its image cannot be read")
        for number, line in enumerate(read_text(entry.file, _LARGEST).splitlines(), 1):
            try:
                if fields := line.split():
                    objects.append(_object(fields[: 5 if pose else None], entry.size, names))
            except ValueError as error:
                entry.error(problems, str(error), line=number)
    except InputError as error:
        entry.error(problems, str(error).removeprefix(f"{entry.file}: "))
    entry.classes = [name for name, _, _ in objects]
    entry.boxes = [box for _, box, _ in objects]
    polygons = [polygon for _, _, polygon in objects if polygon is not None]
    if polygons and len(polygons) == len(objects):
        entry.masks = Masks(tuple(polygons))


def _object(
    fields: list[str], size: tuple[int, int], names: Mapping[int, str]
) -> tuple[str, list[float], Region | None]:
    """The class, box and, where it has one, polygon of a line."""
    first, values = fields[0], list(map(float, fields[1:]))
    if not (first.isascii() and first.isdigit() and len(first) < 10):
        raise ValueError(f"class is not an integer: {first[:80]!r}")
    if names and int(first) not in names:
        raise ValueError(f"no class has the number {first}")
    polygon = None
    if len(values) >= 6 and len(values) % 2 == 0:
        polygon = parse_region([[n * size[i % 2] for i, n in enumerate(values)]], size)
        edges = [(min(some), max(some)) for some in (values[0::2], values[1::2])]
        values = [(low + high) / 2 for low, high in edges] + [high - low for low, high in edges]
    elif len(values) not in (4, 5):
        text = "must be a class and 4 numbers of a box or at least 6 of a polygon"
        raise ValueError(f"{text} (of a pose, data.yaml must have kpt_shape)")
    return names[int(first)] if names else str(int(first)), values[:4], polygon


LAYOUT = layout(
    present,
    read,
    sign="images beside labels (YOLO)",
    foreign="is read as YOLO: the class of an image is that of its objects",
)
