"""A data set in COCO's format: a JSON file for each split, or one for all, with boxes and perhaps regions of objects.

In: the folders. Out: `Metadata` with labels by the sorted ids of the categories. An image's class is the one that its
own entry states, or else the only one of its objects; objects of other classes are no ground truth of it.
"""

import collections
import dataclasses
import pathlib
import re
import reprlib
from typing import Any

import numpy as np
from jaxtyping import Int

from fcam_jax.data.layouts.boxes import corners, grouped, in_pixels
from fcam_jax.data.layouts.coco_file import categories, image_folder, integer, read_json, split_files
from fcam_jax.data.layouts.metadata import Layout, Masks, Metadata, Place, settle_names
from fcam_jax.data.layouts.paths import refused, relative
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.regions import Region, parse_region
from fcam_jax.data.layouts.whole import DIVIDED, divide, only_class, part, splits_in
from fcam_jax.runtime.text import listed

Entry = dict[str, Any]

_NUMBER = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,20})?")
_CROWDS = {**dict.fromkeys(("none", "", "0", "0.0", "false"), False), **dict.fromkeys(("1", "1.0", "true"), True)}


@dataclasses.dataclass
class _Image:
    """An image with those of its annotations that count.

    Attributes:
      place: of its entry in the file.
      image_id: name of its file.
      size: width and height, 0 where they are not stated.
      category: name of the one that its entry states.
      objects: place and entry of each annotation.
    """

    place: str
    image_id: str
    size: tuple[int, int] = (0, 0)
    category: str | None = None
    objects: list[tuple[str, Entry]] = dataclasses.field(default_factory=list)


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split; `problems` is told of images and annotations that cannot be used.

    Raises:
      InputError: a file cannot be read, categories contradict each other, or there are more of them than classes.
    """
    files = split_files(place.metadata)
    if "" not in files:
        place.needs(split, files)
        return _read(place, split, files.pop(split), list(files.values()), num_classes, problems)
    told = Problems()
    try:
        whole = _read(place, "", files[""], [], num_classes, told)
    finally:
        problems.found += [problem for problem in told.found if problem.image_id is None]
    found = divide(whole.labels.tolist())
    place.needs(split, splits_in(found))
    problems.warn(files[""], DIVIDED)
    told.found = [problem for problem in told.found if problem.image_id is not None]
    return part(whole, found, split, told, problems)


def splits(root: pathlib.Path) -> tuple[str, ...]:
    """Those that have a file, or that the images of the only file are divided into."""
    files = split_files(root)
    if "" in files:
        return splits_in(divide(_read(Place("", root, root, root), "", files[""], [], 0, Problems()).labels.tolist()))
    return tuple(files)


def _read(
    place: Place, split: str, path: pathlib.Path, others: list[pathlib.Path], num_classes: int, problems: Problems
) -> Metadata:
    """All images of a file; the categories are those of the others, too."""
    content = read_json(path, problems)
    names = categories(path, content["categories"], others, problems)
    classes = list(dict.fromkeys(names.values()))
    count, class_names = settle_names(classes, num_classes, path, problems)
    if len(classes) < len(names):
        twice = sorted(name for name, times in collections.Counter(names.values()).items() if times > 1)
        problems.warn(path, f"categories of one name are one class: {listed(twice)}")
    reader = _Reader(path, place, names, classes, problems)
    images = reader.images(content["images"])
    reader.attach(content["annotations"], images)
    usable = list({image.image_id: image for image in images.values()}.values())
    if not usable:
        problems.raise_first()
        raise problems.stop(path, "has no image")
    labels = [reader.settle_category(image) for image in usable]
    boxes, masks = reader.localization(usable)
    image_ids = [image.image_id for image in usable]
    folder = image_folder(place.images, path, split, [one for one in image_ids if not refused([one])])
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

    def __init__(self, path: pathlib.Path, place: Place, names: dict[int, str], classes: list[str], problems: Problems):
        self._path, self._names, self._problems = path, names, problems
        self._images, self._form = place.images, place.boxes or "xywh"
        self._label_of = {name: label for label, name in enumerate(classes)}

    def images(self, entries: list[Entry]) -> dict[Any, _Image]:
        """Images by the key that annotations call them by."""
        images: dict[Any, _Image] = {}
        seen: set[str] = set()
        for index, entry in enumerate(entries):
            place, name = f"images[{index}]", entry.get("file_name")
            image = _Image(place, relative(name, self._images) if isinstance(name, str) else place)
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
                crowd = _is_crowd(entry)
                category = integer(entry.get("category_id"))
                if category not in self._names:
                    shown = reprlib.repr(entry.get("category_id"))
                    self._error(images[key], place, f"unknown category {shown}")
                else:
                    images[key].objects.append((place, entry | {"iscrowd": crowd, "category_id": category}))
            except ValueError as error:
                self._problems.error(self._path, f"{place}: {error}", image_id=place)
        objects = [entry for image in images.values() for _, entry in image.objects]
        if objects and all(entry["iscrowd"] for entry in objects):
            self._problems.warn(self._path, 'every object has "iscrowd": 1: they are taken as objects, not as crowds')
            for entry in objects:
                entry["iscrowd"] = False

    def settle_category(self, image: _Image) -> int:
        """The label of an image, -1 where it has none; its objects of other classes are dropped."""
        name = image.category
        if name is None:
            objects = [entry for _, entry in image.objects if not entry["iscrowd"]]
            try:
                name = only_class([self._names[one["category_id"]] for one in objects or [e for _, e in image.objects]])
            except ValueError as error:
                self._error(
                    image,
                    image.place,
                    f"{error} (an image may state its own category_id; --config.data.on_error=skip leaves it out)",
                )
                return -1
        image.objects = [(p, entry) for p, entry in image.objects if self._names[entry["category_id"]] == name]
        return self._label_of[name]

    def localization(self, images: list[_Image]) -> tuple[list[Int[np.ndarray, "_ 4"]] | None, list[Masks] | None]:
        """Boxes and masks of all images; regions count where every object has one, or where there are no boxes."""
        objects = [entry for image in images for _, entry in image.objects if not entry["iscrowd"]]
        with_box = sum(bool(entry.get("bbox")) for entry in objects)
        with_region = sum(bool(entry.get("segmentation")) for entry in objects)
        use_boxes = with_box > 0
        use_regions = with_region > 0 and (not use_boxes or with_region == len(objects))
        if with_region and not use_regions:
            text = f"{len(objects) - with_region} of {len(objects)} objects have no segmentation: no masks are used"
            self._problems.warn(self._path, text)
        boxes = self._boxes(images) if use_boxes else None
        return boxes, [self._masks(image) for image in images] if use_regions else None

    def _boxes(self, images: list[_Image]) -> list[Int[np.ndarray, "_ 4"]]:
        values, rows, places = [], [], []
        for row, image in enumerate(images):
            for place, entry in image.objects:
                if not entry["iscrowd"]:
                    try:
                        values.append(_numbers(entry.get("bbox")))
                        rows.append(row)
                        places.append((place, entry))
                    except ValueError as error:
                        self._error(image, place, f"{error}: {reprlib.repr(entry.get('bbox'))}")
        numbers, owners = np.array(values, np.float64).reshape(-1, 4), np.array(rows, np.int64)
        sizes = np.array([image.size for image in images], np.int32)[owners]
        found, fits = corners(in_pixels(numbers, self._form, sizes, self._path, self._problems), self._form, sizes)
        for one in np.flatnonzero(~fits).tolist():
            place, entry = places[one]
            text = "bbox must be larger than nothing and lie inside its image"
            self._error(images[rows[one]], place, f"{text}: {reprlib.repr(entry['bbox'])}")
        return grouped(found[fits], owners[fits], len(images))

    def _masks(self, image: _Image) -> Masks:
        parts: dict[bool, list[Region]] = {False: [], True: []}
        for place, entry in image.objects:
            try:
                parts[entry["iscrowd"]].append(parse_region(entry.get("segmentation"), image.size))
            except ValueError as error:
                self._error(image, place, f"segmentation: {error}")
        return Masks(tuple(parts[False]), tuple(parts[True]))

    def _error(self, image: _Image, place: str, text: str) -> None:
        self._problems.error(self._path, f"{place}, {image.image_id}: {text}", image_id=image.image_id)


def _numbers(bbox: Any) -> list[float]:
    """The four numbers of a box; some programs write them as texts.

    Raises:
      ValueError: they are no such numbers.
    """
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(type(n) in (int, float, str) for n in bbox)):
        raise ValueError("bbox must be [x, y, width, height]")
    if any(type(n) is str and not _NUMBER.fullmatch(n.strip()) for n in bbox):
        raise ValueError("bbox must be [x, y, width, height]")
    if not all(type(n) is str or abs(n) < 2**30 for n in bbox):
        raise ValueError("bbox holds what is no number of pixels")
    return [float(n) for n in bbox]


def _key(value: Any) -> int | str:
    """The id of an image; a number and its text are one."""
    number = integer(value)
    if number is None and type(value) is not str:
        raise ValueError(f"an image's id must be an integer or a text: {reprlib.repr(value)}")
    return value if number is None else number


def _size(entry: dict[str, Any]) -> tuple[int, int]:
    size = [integer(entry.get(name, 0)) for name in ("width", "height")]
    if ("width" in entry or "height" in entry) and not all(side is not None and 0 < side < 2**31 for side in size):
        stated = (entry.get("width", 0), entry.get("height", 0))
        raise ValueError(f"width and height must both be positive integers: {reprlib.repr(stated)}")
    return size[0] or 0, size[1] or 0


def _stated_category(entry: dict[str, Any], names: dict[int, str]) -> str | None:
    """The class that an image's entry states by an id or a name."""
    stated = entry.get("category_id", entry.get("label"))
    if stated is None or stated in names.values():
        return stated
    number = integer(stated)
    if number not in names:
        raise ValueError(f"unknown category {reprlib.repr(stated)}")
    return names[number]


def _is_crowd(entry: dict[str, Any]) -> bool:
    stated = entry.get("iscrowd")
    found = _CROWDS.get(str(stated).strip().lower())
    if found is None or isinstance(stated, list | dict):
        raise ValueError(f"iscrowd must be 0 or 1: {reprlib.repr(stated)}")
    return found


LAYOUT = Layout(
    splits,
    read,
    localization=lambda place, split: (files := split_files(place.metadata)).get(split) or files[""],
    present=lambda root: bool(split_files(root)),
    sign="annotations/instances_train.json",
)
