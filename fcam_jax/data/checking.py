"""Everything that is wrong with a data set in a folder, told at once; and a manifest of what of it is usable.

In: the folder. Opened are all images and masks: whether they can be decoded, and are as the data set says. Out: a
`Report`; problems that two splits have with each other are among its own.
"""

import collections
import concurrent.futures
import dataclasses
import io
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Bool

from fcam_jax.component import at_least
from fcam_jax.data.checksums import SuspectError
from fcam_jax.data.folder import Folder, check_content, check_size, read_masks, report_absent
from fcam_jax.data.images import decode_image, orientation_of, read_bytes
from fcam_jax.data.layouts.manifest_file import write_rows
from fcam_jax.data.layouts.metadata import Metadata, Place
from fcam_jax.data.layouts.problems import Problem, Problems
from fcam_jax.data.layouts.regions import Region, run_lengths
from fcam_jax.data.layouts.registry import read
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.runtime.progress import counted
from fcam_jax.runtime.text import aligned
from fcam_jax.types import Image

_ASPECT = 0.02  # relative difference between image and mask that rounding to other resolutions may make
_AT_ONCE = 1024  # images whose results wait for those before them


@dataclasses.dataclass(frozen=True)
class Inspected:
    """What an image file is.

    Attributes:
      size: width and height; 0 where it cannot be opened.
      checksum: SHA-256 of the file; empty where it was not read as a whole.
      problems: of the image and its masks.
    """

    size: tuple[int, int] = (0, 0)
    checksum: str = ""
    problems: tuple[Problem, ...] = ()


@dataclasses.dataclass(frozen=True)
class CheckedSplit:
    """What is known of a split.

    Attributes:
      name: of the split.
      problems: of the split.
      metadata: what describes it; without images where it cannot be read.
      inspected: what each image file is.
    """

    name: str
    problems: Problems
    metadata: Metadata = Metadata([], np.zeros(0, np.int32), None)  # noqa: RUF009 (it is frozen)
    inspected: Sequence[Inspected] = ()

    def usable(self) -> Bool[np.ndarray, " n"]:
        """Which images have no error."""
        broken = self.problems.images()
        return np.array([image_id not in broken for image_id in self.metadata.image_ids], bool)

    def facts(self) -> list[str]:
        """Name, and numbers of images, classes that have some, boxes, masks, errors, warnings and usable images."""
        known = self.metadata
        masks = sum(len(some.instances) for some in known.masks or ())
        labels = np.unique(known.labels[known.labels >= 0])
        severities = collections.Counter(problem.severity for problem in self.problems.found)
        counts = (len(known.image_ids), len(labels), sum(map(len, known.boxes or ())), masks)
        return [self.name, *map(str, (*counts, severities["error"], severities["warning"], int(self.usable().sum())))]


@dataclasses.dataclass(frozen=True)
class Report:
    """What is found in a data set.

    Attributes:
      place: where it lies.
      splits: those that were looked at.
      problems: errors, then warnings, by file and line.
    """

    place: Place
    splits: tuple[CheckedSplit, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> int:
        """Number of errors among the problems."""
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def usable(self) -> int:
        """Number of images without an error."""
        return sum(int(split.usable().sum()) for split in self.splits)

    def table(self) -> str:
        """A line for each split."""
        head = ["split", "images", "classes", "boxes", "masks", "errors", "warnings", "usable"]
        return aligned([head, *(split.facts() for split in self.splits)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """How a data set is checked.

    Attributes:
      splits: names with commas; by default all there are of train,val,test.
      workers: threads that decode images.
      quick: read no more than the headers of images.
      out: write a manifest of all usable images there (JSON lines).
    """

    splits: str = ""
    workers: int = os.cpu_count() or 1
    quick: bool = False
    out: pathlib.Path | None = None

    def __post_init__(self) -> None:
        at_least(self, workers=1)
        if self.out is not None and self.quick:
            raise InputError("out needs the content of all images; leave out quick")

    def report(self, data: Folder) -> Report:
        """Look at a data set and all its files.

        Raises:
          InputError: nothing can be made of it, or the manifest cannot be written.
        """
        place, there = data.place(), data.splits()
        names = tuple(self.splits.split(",")) if self.splits else there
        for name in names:
            if name not in there:
                raise unknown_name("split", name, there)
        below = "" if self.out is None else _way(self.out, place.images)
        checked = tuple(self._split(place, name, data) for name in names)
        found = [problem for split in checked for problem in split.problems.found]
        problems = dict.fromkeys([*found, *_overlaps(place, checked), *_untrained(place, checked)])
        if self.out is not None:
            write_rows(self.out, (row for split in checked for row in _rows(split, below)))
        return Report(place, checked, tuple(sorted(problems, key=_order)))

    def _split(self, place: Place, name: str, data: Folder) -> CheckedSplit:
        problems = Problems()
        try:
            metadata = read(place, name, data.num_classes, problems)
        except InputError as error:
            if not any(str(error).startswith(str(told)) for told in problems.errors()):  # it may come from deeper down
                file, _, text = str(error).partition(": ")
                problems.error(file, text)
            return CheckedSplit(name, problems)
        report_absent(place, metadata, problems)
        broken = problems.images()
        rows = [row for row, image_id in enumerate(metadata.image_ids) if image_id not in broken]
        inspected = [Inspected()] * len(metadata.image_ids)
        results = self._inspected(metadata, place.images, rows, data.upright)
        for row, result in zip(rows, counted(results, name, len(rows), "images"), strict=True):
            inspected[row] = result
            problems.found.extend(result.problems)
        return CheckedSplit(name, problems, metadata, inspected)

    def _inspected(
        self, metadata: Metadata, images: pathlib.Path, rows: Sequence[int], upright: bool
    ) -> Iterator[Inspected]:
        with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
            for start in range(0, len(rows), _AT_ONCE):
                some = rows[start : start + _AT_ONCE]
                yield from pool.map(lambda row: _inspect(metadata, images, row, self.quick, upright), some)


def _inspect(metadata: Metadata, images: pathlib.Path, row: int, quick: bool, upright: bool) -> Inspected:
    """Look at one image and its masks."""
    image_id, path = metadata.image_ids[row], images / metadata.paths[row]
    problems = Problems()
    size, checksum = (0, 0), ""
    try:
        if quick:
            size, orientation = _header(path, path)
        else:
            data = read_bytes(path)
            checksum = check_content(metadata, row, path, data)
            height, width = _decoded(data, path, image_id, problems).shape[:2]
            size, orientation = (width, height), _header(io.BytesIO(data), path)[1]
        if upright and orientation > 4:
            size = size[::-1]
        elif orientation > 1 and not upright:
            text = f"EXIF orientation {orientation}; boxes and masks are taken to be those of the stored pixels"
            problems.warn(path, f"{text} (of upright ones: --config.data.upright=True)", image_id=image_id)
        check_size(metadata, row, path, size)
        if not quick:
            _check_masks(metadata, images, row, size, problems)
    except InputError as error:
        problems.error(path, str(error).removeprefix(f"{path}: "), image_id=image_id)
    return Inspected(size, checksum, tuple(problems.found))


def _decoded(data: bytes, path: pathlib.Path, image_id: str, problems: Problems) -> Image:
    """The pixels; a JPEG that libjpeg only warns of is one to look at."""
    try:
        return decode_image(data, str(path))
    except SuspectError as error:
        problems.warn(path, str(error).removeprefix(f"{path}: "), image_id=image_id)
        return decode_image(data, str(path), trusted=True)


def _header(file: os.PathLike[str] | io.BytesIO, path: pathlib.Path) -> tuple[tuple[int, int], int]:
    """Width, height and EXIF orientation from 1 to 8, 1 where there is none."""
    try:
        with PIL.Image.open(file) as image:
            return image.size, orientation_of(image)
    except Exception as error:  # the parsers in Pillow raise what they stumble over
        raise InputError(f"{path}: not an image, or of unknown format") from error


def _check_masks(metadata: Metadata, images: pathlib.Path, row: int, size: tuple[int, int], problems: Problems) -> None:
    image_id, path = metadata.image_ids[row], images / metadata.paths[row]
    mask, ignore = read_masks(metadata, images, row)
    if mask is not None and not mask.any():
        problems.error(path, "its mask is black everywhere", image_id=image_id)
    for name, plane in (("mask", mask), ("ignore mask", ignore)):
        if plane is not None and abs(np.log(plane.shape[1] * size[1] / (plane.shape[0] * size[0]))) > _ASPECT:
            text = f"has {size[0]} x {size[1]} pixels, its {name} {plane.shape[1]} x {plane.shape[0]}: another shape"
            problems.warn(path, text, image_id=image_id)


def _overlaps(place: Place, checked: Sequence[CheckedSplit]) -> list[Problem]:
    """A warning for every image that two splits have, by its file or by the content of its file."""
    problems = Problems()
    first_path: dict[str, str] = {}
    first_content: dict[str, tuple[str, str]] = {}
    for split in checked:
        names = zip(split.metadata.image_ids, split.metadata.paths, split.inspected, strict=True)
        for image_id, name, inspected in names:
            path = os.path.normpath(name)
            twin = first_content.setdefault(inspected.checksum, (split.name, name)) if inspected.checksum else None
            if first_path.setdefault(path, split.name) != split.name:
                text = f"is in {first_path[path]} and in {split.name}: a leak"
                problems.warn(place.images / name, text, image_id=image_id)
            elif twin is not None and twin[0] != split.name:
                text = f"of {split.name} has the content of {twin[1]} of {twin[0]}: a leak"
                problems.warn(place.images / name, text, image_id=image_id)
    return problems.found


def _untrained(place: Place, checked: Sequence[CheckedSplit]) -> list[Problem]:
    """A warning when classes have no usable training images."""
    problems = Problems()
    for split in checked:
        if split.name == "train":
            present = set(split.metadata.labels[split.usable()].tolist())
            missing = split.metadata.num_classes - len(present)
            if missing > 0:
                some = (label for label in range(split.metadata.num_classes) if label not in present)
                names = split.metadata.class_names
                shown = [names[label] if names else str(label) for label in itertools.islice(some, 10)]
                problems.warn(place.root, f"{missing} class(es) without training images: {', '.join(shown)}")
    return problems.found


def _order(problem: Problem) -> tuple[bool, str, int, str]:
    return problem.severity == "warning", problem.file, problem.line or 0, problem.text


def _way(out: pathlib.Path, images: pathlib.Path) -> str:
    """What leads from a manifest's folder to the folder of images, with a slash at its end."""
    way = os.path.relpath(images.absolute(), out.absolute().parent).replace(os.sep, "/")
    if way == ".." or way.startswith("../"):
        raise InputError(f"--out={out}: must lie in {images.absolute()} or in a folder above it, as paths start there")
    return "" if way == "." else f"{way}/"


def _rows(split: CheckedSplit, below: str) -> Iterator[Mapping[str, Any]]:
    """A row of a manifest for each usable image of a split; `below` leads to the folder of images."""
    metadata = split.metadata
    for index in np.flatnonzero(split.usable()).tolist():
        image_id, label = metadata.image_ids[index], int(metadata.labels[index])
        width, height = split.inspected[index].size
        path = below + metadata.paths[index]
        row: dict[str, Any] = {"path": path, "label": label, "split": split.name, "width": width, "height": height}
        row["sha256"] = split.inspected[index].checksum
        if image_id != path:
            row["image_id"] = image_id
        if metadata.class_names is not None and metadata.class_names[label]:
            row["class_name"] = metadata.class_names[label]
        if metadata.boxes is not None and len(metadata.boxes[index]):
            row["boxes"] = metadata.boxes[index].tolist()
        if metadata.masks is not None and metadata.masks[index].instances:
            row["mask"] = [_column(mask, below) for mask in metadata.masks[index].instances]
        ignore = metadata.masks[index].ignore if metadata.masks is not None else ()
        if ignore:
            regions = [region.mask() for region in ignore if isinstance(region, Region)]
            row["ignore"] = run_lengths(np.any(regions, axis=0)) if regions else _column(ignore[0], below)
        yield row


def _column(mask: str | Region, below: str) -> str | dict[str, Any]:
    """A mask as a manifest has it: regions become run lengths."""
    return below + mask if isinstance(mask, str) else run_lengths(mask.mask())
