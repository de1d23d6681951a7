"""Everything that is wrong with a data set in a folder, told at once; and a manifest of what of it is usable.

In: the folder. Opened are all images and masks: whether they can be decoded, and are as the data set says. Out: a
`Report`; problems that two splits have with each other are among its own.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from fcam_jax.component import at_least
from fcam_jax.data.folder import Described, Folder, report_absent
from fcam_jax.data.inspection import Inspected, inspect, warn_of_doubts, warn_of_range
from fcam_jax.data.layouts.manifest_file import write_rows
from fcam_jax.data.layouts.metadata import Metadata, Place
from fcam_jax.data.layouts.problems import Problem, Problems
from fcam_jax.data.layouts.regions import Region, run_lengths
from fcam_jax.data.layouts.registry import read
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.runtime.progress import counted
from fcam_jax.runtime.text import aligned

_AT_ONCE = 1024  # images whose results wait for those before them


@dataclasses.dataclass(frozen=True)
class CheckedSplit:
    """What is found in a split.

    Attributes:
      described: what is known of it.
      inspected: what each image file is.
      opened: number of images that were opened, and of those among them that were decoded.
    """

    described: Described
    inspected: Sequence[Inspected] = ()
    opened: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        """Of the split."""
        return self.described.name

    @property
    def metadata(self) -> Metadata:
        """What describes it."""
        return self.described.metadata

    def usable(self) -> Bool[np.ndarray, " n"]:
        """Which images have no error."""
        broken = self.described.problems.images()
        return np.array([image_id not in broken for image_id in self.metadata.image_ids], bool)

    def facts(self) -> list[str]:
        """Name, and numbers of images, classes that have some, boxes, masks, errors, warnings and usable images."""
        known = self.metadata
        masks = sum(len(some.instances) for some in known.masks or ())
        labels = np.unique(known.labels[known.labels >= 0])
        severities = collections.Counter(problem.severity for problem in self.described.problems.found)
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
      most: images of a split that are opened, and that are decoded, spread over it; None for all.
    """

    splits: str = ""
    workers: int = os.cpu_count() or 1
    quick: bool = False
    out: pathlib.Path | None = None
    most: tuple[int, int] | None = None

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
        report = self.look_into([_described(place, name, data) for name in names])
        if self.out is not None:
            write_rows(self.out, (row for split in report.splits for row in _rows(split, below)))
        return report

    def look_into(self, splits: Sequence[Described]) -> Report:
        """Look at the files of splits of a data set."""
        place = splits[0].place
        checked = tuple(map(self._split, splits))
        found = [problem for split in splits for problem in split.problems.found]
        problems = dict.fromkeys([*found, *_overlaps(place, checked), *_untrained(place, checked)])
        return Report(place, checked, tuple(sorted(problems, key=_order)))

    def _split(self, split: Described) -> CheckedSplit:
        broken = split.problems.images()
        inspected = [Inspected()] * len(split.metadata.image_ids)
        whole = [row for row, image_id in enumerate(split.metadata.image_ids) if image_id not in broken]
        opened, decoded = self.most or (len(whole), len(whole))
        rows = _spread(whole, opened)
        deep = set(_spread(rows, 0 if self.quick else decoded))
        with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
            results = (
                result
                for start in range(0, len(rows), _AT_ONCE)
                for result in pool.map(lambda row: inspect(split, row, row in deep), rows[start : start + _AT_ONCE])
            )
            for row, result in zip(rows, counted(results, split.name, len(rows), "images"), strict=True):
                inspected[row] = result
                split.problems.found.extend(result.problems)
        warn_of_doubts(split, inspected)
        warn_of_range(split, inspected)
        return CheckedSplit(split, inspected, (len(rows), len(deep)))


def _described(place: Place, name: str, data: Folder) -> Described:
    problems = Problems()
    try:
        metadata = read(place, name, data.num_classes, problems)
        report_absent(place, metadata, problems)
    except InputError as error:
        if not any(str(error).startswith(str(told)) for told in problems.errors()):  # it may come from deeper down
            file, _, text = str(error).partition(": ")
            problems.error(file, text)
        metadata = Metadata([], np.zeros(0, np.int32), None)
    return Described(place, name, metadata, problems, data.reading(place))


def _spread(rows: Sequence[int], count: int) -> Sequence[int]:
    """So many of the rows at most, spread over all."""
    return rows if len(rows) <= count else [rows[i * len(rows) // count] for i in range(count)]


def _overlaps(place: Place, checked: Sequence[CheckedSplit]) -> list[Problem]:
    """A warning for every image that two splits or classes have, by its file or by the content of its file."""
    problems = Problems()
    first_path: dict[str, str] = {}
    first_content: dict[str, tuple[str, str, int]] = {}
    for split in checked:
        known = split.metadata
        names = zip(known.image_ids, known.paths, known.labels.tolist(), split.inspected, strict=True)
        for image_id, name, label, inspected in names:
            path = os.path.normpath(name)
            own = (split.name, name, label)
            twin = first_content.setdefault(inspected.checksum, own) if inspected.checksum else own
            if first_path.setdefault(path, split.name) != split.name:
                text = f"is in {first_path[path]} and in {split.name}: a leak"
                problems.warn(place.images / name, text, image_id=image_id)
            elif twin[0] != split.name:
                text = f"of {split.name} has the content of {twin[1]} of {twin[0]}: a leak"
                problems.warn(place.images / name, text, image_id=image_id)
            elif twin[2] != label:
                of, other = (known.class_names[one] if known.class_names else one for one in (label, twin[2]))
                text = f"of class {of} has the content of {twin[1]} of class {other}"
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
