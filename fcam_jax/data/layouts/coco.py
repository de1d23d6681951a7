"""A data set in COCO's format: a JSON file for each split, or one for all, with boxes and perhaps regions of objects.

In: the folders. Out: `Metadata` with labels by the sorted ids of the categories. An image's class is the one that its
own entry states, or else the only one of its objects; objects of other classes are no ground truth of it.
"""

import collections
import dataclasses
import pathlib
import re
import reprlib
from collections.abc import Sequence
from typing import Any

from fcam_jax.data.layouts.coco_file import categories, image_folder, integer, read_json, split_files
from fcam_jax.data.layouts.entries import DIVIDED, Content, Entry, assembled, divide, layout, only_class, report_refused
from fcam_jax.data.layouts.metadata import Masks, Metadata, Place
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.regions import Region, parse_region
from fcam_jax.data.layouts.tree import refused, relative
from fcam_jax.runtime.text import listed

_NUMBER = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,20})?")
_CROWDS = {**dict.fromkeys(("none", "", "0", "0.0", "false"), False), **dict.fromkeys(("1", "1.0", "true"), True)}


@dataclasses.dataclass
class _Object:
    """An annotation: its place in the file, the name of its category, whether it is a crowd, and what stands there."""

    place: str
    category: str
    crowd: bool
    said: dict[str, Any]


@dataclasses.dataclass(slots=True)
class _Image(Entry):
    objects: list[_Object] = dataclasses.field(default_factory=list)


def read(place: Place, split: str, num_classes: int, problems: Problems) -> Metadata:
    """The images of a split; `problems` is told of images and annotations that cannot be used. Raises InputError: a
    file cannot be read, categories contradict each other, or there are more of them than classes.
    """
    files = split_files(place.metadata)
    if "" in files:
        return _OF_ONE_FILE.read(place, split, num_classes, problems)
    place.needs(split, files)
    content = _content(place, split, files.pop(split), list(files.values()), problems)
    return assembled(content, place, num_classes, problems)


def splits(root: pathlib.Path) -> tuple[str, ...]:
    """Those that have a file, or that the images of the only file are divided into."""
    files = split_files(root)
    return _OF_ONE_FILE.splits(root) if "" in files else tuple(files)


def _whole(place: Place, problems: Problems) -> Content:
    path = split_files(place.metadata)[""]
    content = _content(place, "", path, [], problems)
    label_of = {name: label for label, name in enumerate(content.classes)}
    labels = [label_of[entry.classes[0]] if entry.classes else -1 for entry in content.entries]
    for entry, split in zip(content.entries, divide(labels), strict=True):
        entry.split = split
    problems.warn(path, DIVIDED)
    return content


def _content(
    place: Place, split: str, path: pathlib.Path, others: Sequence[pathlib.Path], problems: Problems
) -> Content:
    """All images of a file; the categories are those of the others, too."""
    content = read_json(path, problems)
    names = categories(path, content["categories"], others, problems)
    if twice := sorted(name for name, times in collections.Counter(names.values()).items() if times > 1):
        problems.warn(path, f"categories of one name are one class: {listed(twice)}")
    by_key = _images(path, content["images"], names, place.images, problems)
    _attach(path, content["annotations"], by_key, names, problems)
    images = list({image.image_id: image for image in by_key.values()}.values())
    if not images:
        problems.settle()
        raise problems.stop(path, "has no image")
    for image in images:
        _settle_category(image, problems)
    report_refused(images, problems)
    _localize(path, images, problems)
    folder = image_folder(place.images, path, split, [one.path for one in images if not refused([one.path])])
    for image in images:
        image.path = f"{folder}/{image.path}" if folder else image.path
    return Content(path, list(images), list(dict.fromkeys(names.values())), "xywh")


def _images(
    path: pathlib.Path, entries: list[dict[str, Any]], names: dict[int, str], folder: pathlib.Path, problems: Problems
) -> dict[int | str, _Image]:
    """Images by the key that annotations call them by."""
    images: dict[int | str, _Image] = {}
    seen: set[str] = set()
    for index, said in enumerate(entries):
        place, name = f"images[{index}]", said.get("file_name")
        image_id = relative(name, folder) if isinstance(name, str) else place
        image = _Image(path, image_id, image_id, place=place)
        try:
            key = _key(said.get("id"))
            if key in images or image_id in seen:
                raise ValueError("its id or file_name is there more than once")
            images[key] = image
            seen.add(image_id)
            if image_id == place:
                raise ValueError("file_name must be a text")
            image.size = _size(said)
            stated = said.get("category_id", said.get("label"))  # an id or a name
            if stated is not None:
                found = stated if stated in names.values() else names.get(integer(stated))  # type: ignore[arg-type]
                if found is None:
                    raise ValueError(f"unknown category {reprlib.repr(stated)}")
                image.classes = [found]
        except ValueError as error:
            image.error(problems, str(error))
    return images


def _attach(
    path: pathlib.Path,
    entries: list[dict[str, Any]],
    images: dict[int | str, _Image],
    names: dict[int, str],
    problems: Problems,
) -> None:
    """Give each image its objects."""
    for index, said in enumerate(entries):
        place = f"annotations[{index}]"
        try:
            key = _key(said.get("image_id"))
            if key not in images:
                raise ValueError(f"no image has the id {reprlib.repr(key)}")
            crowd, category = _is_crowd(said.get("iscrowd")), integer(said.get("category_id"))
            if category in names:
                images[key].objects.append(_Object(place, names[category], crowd, said))
            else:
                images[key].error(problems, f"unknown category {reprlib.repr(said.get('category_id'))}", place=place)
        except ValueError as error:
            problems.error(path, f"{place}: {error}", image_id=place)
    objects = [one for image in images.values() for one in image.objects]
    if objects and all(one.crowd for one in objects):
        problems.warn(path, 'every object has "iscrowd": 1: they are taken as objects, not as crowds')
        for one in objects:
            one.crowd = False


def _settle_category(image: _Image, problems: Problems) -> None:
    """Find the class of an image, and drop its objects of other classes."""
    if not image.classes:
        objects = [one for one in image.objects if not one.crowd] or image.objects
        try:
            image.classes = [only_class([one.category for one in objects])]
        except ValueError as error:
            cure = "an image may state its own category_id; --config.data.on_error=skip leaves it out"
            image.error(problems, f"{error} ({cure})")
            return
    image.objects = [one for one in image.objects if one.category == image.classes[0]]


def _localize(path: pathlib.Path, images: list[_Image], problems: Problems) -> None:
    """Boxes and masks of all images; regions count where every object has one, or where there are no boxes."""
    objects = [one.said for image in images for one in image.objects if not one.crowd]
    with_box = sum(bool(said.get("bbox")) for said in objects)
    with_region = sum(bool(said.get("segmentation")) for said in objects)
    use_regions = with_region > 0 and (not with_box or with_region == len(objects))
    if with_region and not use_regions:
        text = f"{len(objects) - with_region} of {len(objects)} objects have no segmentation: no masks are used"
        problems.warn(path, text)
    for image in images:
        boxes, places = [], []
        regions: dict[bool, list[Region]] = {False: [], True: []}
        for one in image.objects:
            field = "bbox"
            try:
                if with_box and not one.crowd:
                    boxes.append(_numbers(one.said.get(field)))
                    places.append(one.place)
                field = "segmentation"
                if use_regions:
                    regions[one.crowd].append(parse_region(one.said.get(field), image.size))
            except ValueError as error:
                image.error(problems, f"{field}: {error}", place=one.place)
        image.boxes, image.places, image.masks = boxes, places, Masks(tuple(regions[False]), tuple(regions[True]))


def _numbers(bbox: Any) -> list[float]:
    """The four numbers of a box; some programs write them as texts."""
    fits = lambda n: _NUMBER.fullmatch(n.strip()) if type(n) is str else type(n) in (int, float) and abs(n) < 2**30  # noqa: E731
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(map(fits, bbox))):
        raise ValueError(f"must be [x, y, width, height]: {reprlib.repr(bbox)}")
    return [float(n) for n in bbox]


def _key(value: Any) -> int | str:
    """The id of an image; a number and its text are one."""
    number = integer(value)
    if number is None and type(value) is not str:
        raise ValueError(f"an image's id must be an integer or a text: {reprlib.repr(value)}")
    return value if number is None else number


def _size(said: dict[str, Any]) -> tuple[int, int]:
    size = [integer(said.get(name, 0)) for name in ("width", "height")]
    if ("width" in said or "height" in said) and not all(side is not None and 0 < side < 2**31 for side in size):
        stated = (said.get("width", 0), said.get("height", 0))
        raise ValueError(f"width and height must both be positive integers: {reprlib.repr(stated)}")
    return size[0] or 0, size[1] or 0


def _is_crowd(stated: Any) -> bool:
    found = _CROWDS.get(str(stated).strip().lower())
    if found is None or isinstance(stated, list | dict):
        raise ValueError(f"iscrowd must be 0 or 1: {reprlib.repr(stated)}")
    return found


_OF_ONE_FILE = layout(lambda root: bool(split_files(root)), _whole, sign="annotations/instances_train.json")
LAYOUT = dataclasses.replace(
    _OF_ONE_FILE,
    splits=splits,
    read=read,
    localization=lambda place, split: (files := split_files(place.metadata)).get(split) or files[""],
)
