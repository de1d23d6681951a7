"""Pascal VOC's layout: ``JPEGImages``, an XML file for each image in ``Annotations``, lists in ``ImageSets/Main``.

In: the folder. Out: the images that a list of a split names, or all there are. An image's class is the only one of its
objects. Masks are the pictures in ``SegmentationObject`` or ``SegmentationClass``, their outlines undecided.
"""

import dataclasses
import pathlib
import xml.etree.ElementTree as ET

import numpy as np
from jaxtyping import Bool

from fcam_jax.data.images import read_image
from fcam_jax.data.layouts.entries import Content, Entry, all_or_no_masks, layout
from fcam_jax.data.layouts.metadata import Masks, Place, ordered
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.regions import Region
from fcam_jax.data.layouts.tree import SUFFIXES, listing, split_of
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import read_text
from fcam_jax.runtime.text import listed

_VOID = (224, 224, 192)  # VOC's colour of outlines
_LARGEST = 4 << 20  # bytes of an annotation


@dataclasses.dataclass(frozen=True)
class Painted(Region):
    """The object of a picture in VOC's colours or, by `void`, its undecided pixels."""

    path: pathlib.Path = pathlib.Path()
    void: bool = False

    def mask(self) -> Bool[np.ndarray, "h w"]:
        """True in what is meant."""
        pixels = read_image(self.path)
        void = np.all(pixels == _VOID, axis=-1)
        return void if self.void else pixels.any(axis=-1) & ~void


def present(root: pathlib.Path) -> bool:
    """Whether a folder is laid out as VOC's."""
    return (root / "JPEGImages").is_dir() and any((root / name).is_dir() for name in ("Annotations", "ImageSets"))


def read(place: Place, problems: Problems) -> Content:
    """All images; `problems` is told of annotations that cannot be read. Raises InputError: a list cannot be read, or
    names an image of another one.
    """
    root = place.metadata
    images = [name for name in sorted(listing(root / "JPEGImages")) if name.lower().endswith(SUFFIXES)]
    files = {pathlib.PurePath(name).stem: name for name in images if not name.startswith(".")}
    splits = _splits(root, problems)
    if splits and (others := [stem for stem in files if stem not in splits]):
        text = f"{len(others)} of {len(files)} images are in no list and left out"
        problems.warn(root / "ImageSets", f"{text}: {listed(others)}")
    painted = next((name for name in ("SegmentationObject", "SegmentationClass") if (root / name).is_dir()), "")
    masks = listing(root / painted) if painted else set()
    entries = []
    for stem in splits or files:
        path = f"JPEGImages/{files.get(stem, f'{stem}.jpg')}"
        entry = Entry(root / f"Annotations/{stem}.xml", stem, path, splits.get(stem, ""))
        try:
            _annotate(entry)
        except InputError as error:
            entry.error(problems, str(error).removeprefix(f"{entry.file}: "))
        if f"{stem}.png" in masks:
            width, height = entry.size
            parts = (Painted(height, width, path=root / painted / f"{stem}.png", void=void) for void in (False, True))
            entry.masks = Masks(*((part,) for part in parts))
        entries.append(entry)
    all_or_no_masks(root, entries, problems)
    return Content(root, entries, ordered({name for entry in entries for name in entry.classes}), "corners")


def _splits(root: pathlib.Path, problems: Problems) -> dict[str, str]:
    """The split of each image that a list names."""
    found: dict[str, str] = {}
    for folder in ("ImageSets/Main", "ImageSets/Segmentation", "ImageSets"):
        names = sorted(listing(root / folder))
        lists = {name: split for name in names if (split := split_of(pathlib.Path(name).stem))}
        if "train" not in lists.values() and "trainval.txt" in names:
            lists["trainval.txt"] = "train"
        for name, split in lists.items():
            path = root / folder / name
            for line in read_text(path).splitlines():
                stem = pathlib.PurePosixPath(line.split()[0]).stem if line.strip() else ""
                if stem and found.setdefault(stem, split) != split:
                    raise problems.stop(path, f"image {stem[:80]} is in split {found[stem]}, too")
        if found:
            break
    return found


def _annotate(entry: Entry) -> None:
    text = read_text(entry.file, _LARGEST)
    if "<!" in text.replace("<!--", ""):  # what other entities and files could come in by
        raise InputError("has a document type, which is not read")
    try:
        annotation = ET.fromstring(text.encode())
        size = [int(float(annotation.findtext(f"size/{side}") or 0)) for side in ("width", "height")]
        entry.size = (size[0], size[1]) if min(size) > 0 and max(size) < 2**31 else (0, 0)
        boxes, classes = [], []
        for one in annotation.iterfind("object"):
            box = one.find("bndbox")
            if box is not None:
                low = [float(box.findtext(name) or "nan") - 1 for name in ("xmin", "ymin")]
                high = [float(box.findtext(name) or "nan") for name in ("xmax", "ymax")]
                boxes.append([*(max(n, 0.0) if n >= -1 else n for n in low), *high])
            classes.append((one.findtext("name") or "").strip() or "?")
        entry.boxes, entry.classes = boxes, classes
    except (ET.ParseError, OverflowError, ValueError) as error:
        raise InputError(f"cannot be read as VOC's XML: {error}") from error


LAYOUT = layout(
    present,
    read,
    sign="JPEGImages beside Annotations (Pascal VOC)",
    foreign="is read as Pascal VOC: the class of an image is that of its objects",
)
