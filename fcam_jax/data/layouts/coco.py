"""A data set in COCO's format: a JSON file for each split, with boxes and perhaps regions of objects.

In: the folders. Out: `Metadata` with labels by the sorted ids of the categories. An image's class is the one that its
own entry states, or else the only one of its objects; objects of other classes are no ground truth of it.
"""

import dataclasses
import math
import pathlib
import reprlib
from typing import Any

import numpy as np
from jaxtyping import Int

from fcam_jax.data.layouts.coco_file import categories, image_folder, read_json, split_files
from fcam_jax.data.layouts.metadata import Layout, Masks, Metadata, Place, settle_names
from fcam_jax.data.layouts.paths import refused
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.regions import Region, parse_region
from fcam_jax.runtime.text import listed

Entry = dict[str, Any]


@dataclasses.dataclass
class _Image:
    """An image with those of its annotations that count.

    Attributes:
      place: of its entry in the file.
      image_id: name of its file.
      size: width and height, 0 where they are not stated.
      category: that its entry states.
      objects: place and entry of each annotation.
    """

    place: str
    image_id: str
    size: tuple[int, int] = (0, 0)
    category: int | None = None
    objects: list[tuple[str, Entry]] = dataclasses.field(default_factory=list)


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split; `problems` is told of images and annotations that cannot be used.

    Raises:
      InputError: a file cannot be read, categories contradict each other, or there are more of them than classes.
    """
    files = split_files(place.metadata)
    place.needs(split, files)
    path = files.pop(split)
    content = read_json(path, problems)
    names = categories(path, content["categories"], list(files.values()), problems)
    count, class_names = settle_names(list(names.values()), num_classes, path, problems)
    reader = _Reader(path, names, problems)
    images = reader.images(content["images"])
    reader.attach(content["annotations"], images)
    usable = list({image.image_id: image for image in images.values()}.values())
    if not usable:
        problems.raise_first()
        raise problems.stop(path, "has no image")
    labels = [reader.settle_category(image) for image in usable]
    boxes, masks = reader.localization(usable)
    image_ids = [image.image_id for image in usable]
    folder = image_folder(place.images, path, [image_id for image_id in image_ids if not refused([image_id])])
    sizes = np.array([image.size for image in usable], np.int32)
    return Metadata(
        image_ids=image_ids,
        labels=np.array(labels, np.int32),
        sizes=sizes if sizes.any() else None,
        boxes=boxes,
        masks=masks,
        num_classes=count,
        paths=[f"{folder}/{image_id}" if folder else image_id for image_id in image_ids],
        class_names=class_names,
    )


class _Reader:
    """The parts of a file, with the problems in it."""

    def __init__(self, path: pathlib.Path, names: dict[int, str], problems: Problems):
        self._path, self._names, self._problems = path, names, problems
        self._labels = {category: label for label, category in enumerate(names)}

    def images(self, entries: list[Entry]) -> dict[Any, _Image]:
        """Images by the key that annotations call them by."""
        images: dict[Any, _Image] = {}
        seen: set[str] = set()
        for index, entry in enumerate(entries):
            place, name = f"images[{index}]", entry.get("file_name")
            image = _Image(place, name if isinstance(name, str) else place)
            try:
                key = _key(entry.get("id"))
                if key in images or image.image_id in seen:
                    raise ValueError("its id or file_name is there more than once")
                images[key] = image
                seen.add(image.image_id)
                for reason in refused([image.image_id]).values():
                    raise ValueError(reason)
                if image.image_id == place:
                    raise ValueError("file_name must be a text")
                image.size = _size(entry)
                image.category = _stated_category(entry, self._names)
            except ValueError as error:
                self._error(image, place, str(error))
        return images

    def attach(self, entries: list[Entry], images: dict[Any, _Image]) -> None:
        """Give each image its annotations."""
        for index, entry in enumerate(entries):
            place = f"annotations[{index}]"
            try:
                key = _key(entry.get("image_id"))
                if key not in images:
                    raise ValueError(f"no image has the id {reprlib.repr(key)}")
                images[key].objects.append((place, entry))
            except ValueError as error:
                self._problems.error(self._path, f"{place}: {error}", image_id=place)

    def settle_category(self, image: _Image) -> int:
        """The label of an image, -1 where it has none; its objects of other classes are dropped."""
        for place, entry in image.objects:
            if not _is_category(entry.get("category_id"), self._labels):
                self._error(image, place, f"unknown category {reprlib.repr(entry.get('category_id'))}")
                return -1
        found = sorted({entry["category_id"] for _, entry in image.objects if not _is_crowd(entry)})
        category = image.category
        if category is None:
            if len(found) != 1:
                names = [self._names[other] for other in found]
                text = f"objects of several categories: {listed(names)}" if found else "no category: it has no object"
                self._error(image, image.place, f"{text} (an image may state its own category_id)")
                return -1
            category = found[0]
        image.objects = [(p, entry) for p, entry in image.objects if entry["category_id"] == category]
        return self._labels[category]

    def localization(self, images: list[_Image]) -> tuple[list[Int[np.ndarray, "_ 4"]] | None, list[Masks] | None]:
        """Boxes and masks of all images; regions count where every object has one, or where there are no boxes."""
        objects = [entry for image in images for _, entry in image.objects if not _is_crowd(entry)]
        with_box = sum("bbox" in entry for entry in objects)
        with_region = sum(bool(entry.get("segmentation")) for entry in objects)
        use_boxes = with_box > 0
        use_regions = with_region > 0 and (not use_boxes or with_region == len(objects))
        if with_region and not use_regions:
            text = f"{len(objects) - with_region} of {len(objects)} objects have no segmentation: no masks are used"
            self._problems.warn(self._path, text)
        boxes = [self._boxes(image) for image in images] if use_boxes else None
        return boxes, [self._masks(image) for image in images] if use_regions else None

    def _boxes(self, image: _Image) -> Int[np.ndarray, "_ 4"]:
        corners = []
        for place, entry in image.objects:
            if not _is_crowd(entry):
                try:
                    corners.append(corners_of(entry.get("bbox"), image.size))
                except ValueError as error:
                    self._error(image, place, f"{error}: {reprlib.repr(entry.get('bbox'))}")
        return np.array(corners, np.int32).reshape(-1, 4)

    def _masks(self, image: _Image) -> Masks:
        parts: dict[bool, list[Region]] = {False: [], True: []}
        for place, entry in image.objects:
            try:
                parts[_is_crowd(entry)].append(parse_region(entry.get("segmentation"), image.size))
            except ValueError as error:
                self._error(image, place, f"segmentation: {error}")
        return Masks(tuple(parts[False]), tuple(parts[True]))

    def _error(self, image: _Image, place: str, text: str) -> None:
        self._problems.error(self._path, f"{place}, {image.image_id}: {text}", image_id=image.image_id)


def corners_of(bbox: Any, size: tuple[int, int]) -> list[int]:
    """Corners ``x0, y0, x1, y1`` of a COCO box ``[x, y, width, height]``.

    Each edge goes to the nearest whole pixel (halves up), a box keeps at least one pixel, and what is less than a pixel
    over an edge of the image is cut off: files hold rounded products.

    Args:
      bbox: in pixels.
      size: width and height of the image; 0 where they are not known.

    Raises:
      ValueError: it is no box of the image; the message says why.
    """
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(type(n) in (int, float) for n in bbox)):
        raise ValueError("bbox must be [x, y, width, height]")
    if not all(abs(n) < 2**30 for n in bbox):
        raise ValueError("bbox holds what is no number of pixels")
    low, high = [], []
    for start, length, end in zip(bbox[:2], bbox[2:], size, strict=True):
        if length <= 0 or start <= -1 or (end and (start + length >= end + 1 or start >= end)):
            raise ValueError("bbox must be larger than nothing and lie inside its image")
        first = max(math.floor(start + 0.5), 0)
        last = max(math.floor(start + length + 0.5), first + 1)
        last = min(last, end) if end else last
        low.append(min(first, last - 1))
        high.append(last)
    return low + high


def _key(value: Any) -> int | str:
    if type(value) not in (int, str):
        raise ValueError(f"an image's id must be an integer or a text: {reprlib.repr(value)}")
    return value


def _size(entry: dict[str, Any]) -> tuple[int, int]:
    size = (entry.get("width", 0), entry.get("height", 0))
    whole = all(type(n) in (int, float) and 0 < n < 2**31 and n == int(n) for n in size)
    if ("width" in entry or "height" in entry) and not whole:
        raise ValueError(f"width and height must both be positive integers: {reprlib.repr(size)}")
    return int(size[0]), int(size[1])


def _stated_category(entry: dict[str, Any], names: dict[int, str]) -> int | None:
    stated = entry.get("category_id", entry.get("label"))
    if stated is None or _is_category(stated, names):
        return stated
    called = [category for category, name in names.items() if name == stated]
    if len(called) != 1:
        raise ValueError(f"unknown category {reprlib.repr(stated)}")
    return called[0]


def _is_category(value: Any, known: dict[int, Any]) -> bool:
    return type(value) is int and value in known


def _is_crowd(entry: dict[str, Any]) -> bool:
    return bool(entry.get("iscrowd"))


LAYOUT = Layout(
    lambda root: tuple(split_files(root)),
    read,
    localization=lambda place, split: split_files(place.metadata)[split],
    sign="annotations/instances_train.json",
)
