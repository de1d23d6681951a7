"""Everything that is wrong with a data set in a folder, told at once; and a manifest of what of it is usable.

In: the folder. Opened are all images and masks: whether they can be decoded, and are as the data set says. Out: a
`Report`; problems that two splits have with each other are among its own.
"""

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fcam_jax.component import at_least
from fcam_jax.data.folder import Described, Folder
from fcam_jax.data.inspection import Inspected, inspect, warn_of_doubts, warn_of_range
from fcam_jax.data.layouts.metadata import Metadata, Place
from fcam_jax.data.layouts.problems import Problem, Problems
from fcam_jax.data.layouts.regions import Region, run_lengths
from fcam_jax.data.layouts.tables import write_rows
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.runtime.progress import counted
from fcam_jax.runtime.text import aligned

_AT_ONCE = 1024  # images whose results wait for those before them
_NAMED = 10  # classes in a message


@dataclasses.dataclass(frozen=True)
class Report:
    """What is found in a data set."""

    place: Place  # where it lies
    splits: Sequence[Described]  # those that were looked at
    inspected: Sequence[Sequence[Inspected]]  # what each image file of each split is
    opened: tuple[int, int]  # number of images that were opened, and of those among them that were decoded
    problems: Sequence[Problem]  # errors, then warnings, by file and line

    @property
    def errors(self) -> int:
        """Number of errors among the problems."""
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def usable(self) -> int:
        """Number of images without an error."""
        return sum(int(split.usable().sum()) for split in self.splits)

    def table(self) -> str:
        """A line for each split: numbers of images, classes that have some, boxes, masks, errors, warnings."""
        rows = [["split", "images", "classes", "boxes", "masks", "errors", "warnings", "usable"]]
        for split in self.splits:
            known = split.metadata
            severities = collections.Counter(problem.severity for problem in split.problems.found)
            counts = (
                len(known.image_ids),
                len(np.unique(known.labels[known.labels >= 0])),
                sum(map(len, known.boxes or ())),
                sum(len(some.instances) for some in known.masks or ()),
                severities["error"],
                severities["warning"],
                int(split.usable().sum()),
            )
            rows.append([split.name, *map(str, counts)])
        return aligned(rows)


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
        """Look at a data set and all its files. Raises InputError: nothing can be made of it, or the manifest cannot be
        written.
        """
        place, there = data.place(), data.splits()
        names = tuple(self.splits.split(",")) if self.splits else there
        for name in names:
            if name not in there:
                raise unknown_name("split", name, there)
        below = "" if self.out is None else _way(self.out, place.images)
        report = self.look_into([_described(place, name, data) for name in names])
        if self.out is not None:
            write_rows(self.out, _rows(report, below))
        return report

    def look_into(self, splits: Sequence[Described]) -> Report:
        """Look at the files of splits of a data set."""
        opened = np.zeros(2, int)
        inspected = []
        for split in splits:
            rows: Sequence[int] = np.flatnonzero(split.usable()).tolist()
            headers, whole = self.most or (len(rows), len(rows))
            rows = _spread(rows, headers)
            deep = set(_spread(rows, 0 if self.quick else whole))
            inspected.append(self._inspected(split, rows, deep))
            opened += (len(rows), len(deep))
        found = [problem for split in splits for problem in split.problems.found]
        problems = dict.fromkeys([*found, *_shared(splits, inspected)])
        in_order = sorted(problems, key=lambda one: (one.severity == "warning", one.file, one.line or 0, one.text))
        return Report(splits[0].place, splits, inspected, (int(opened[0]), int(opened[1])), in_order)

    def _inspected(self, split: Described, rows: Sequence[int], deep: set[int]) -> list[Inspected]:
        """What some images of a split are; of the `deep` ones by their whole files."""
        inspected = [Inspected() for _ in split.metadata.image_ids]
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
        return inspected


def _described(place: Place, name: str, data: Folder) -> Described:
    problems = Problems()
    try:
        return data.describe(place, name, problems)
    except InputError as error:
        if not any(str(error).startswith(str(told)) for told in problems.errors()):  # it may come from deeper down
            file, _, text = str(error).partition(": ")
            problems.error(file, text)
        return Described(data, place, name, Metadata([], np.zeros(0, np.int32), None), problems)


def _spread(rows: Sequence[int], count: int) -> Sequence[int]:
    """So many of the rows at most, spread over all."""
    return rows if len(rows) <= count else [rows[i * len(rows) // count] for i in range(count)]


def _shared(splits: Sequence[Described], inspected: Sequence[Sequence[Inspected]]) -> list[Problem]:
    """A warning for every image that two splits or classes have, by its file or by the content of its file, and when
    classes have no usable training images.
    """
    problems = Problems()
    first_path: dict[str, str] = {}
    first_content: dict[str, tuple[str, str, int]] = {}
    for split, looked in zip(splits, inspected, strict=True):
        known = split.metadata
        for row, (name, label) in enumerate(zip(known.paths, known.labels.tolist(), strict=True)):
            own, checksum = (split.name, name, label), looked[row].checksum
            other_split, twin, of = first_content.setdefault(checksum, own) if checksum else own
            path, text = os.path.normpath(name), ""
            if first_path.setdefault(path, split.name) != split.name:
                text = f"is in {first_path[path]} and in {split.name}: a leak"
            elif other_split != split.name:
                text = f"of {split.name} has the content of {twin} of {other_split}: a leak"
            elif of != label:
                text = f"of class {known.name_of(label)} has the content of {twin} of class {known.name_of(of)}"
            if text:
                problems.warn(split.path(row), text, image_id=known.image_ids[row])
        missing = np.setdiff1d(np.arange(known.num_classes), known.labels[split.usable()]).tolist()
        if split.name == "train" and missing:
            shown = ", ".join(map(known.name_of, missing[:_NAMED]))
            problems.warn(split.place.root, f"{len(missing)} class(es) without training images: {shown}")
    return problems.found


def _way(out: pathlib.Path, images: pathlib.Path) -> str:
    """What leads from a manifest's folder to the folder of images, with a slash at its end."""
    way = os.path.relpath(images.absolute(), out.absolute().parent).replace(os.sep, "/")
    if way == ".." or way.startswith("../"):
        raise InputError(f"--out={out}: must lie in {images.absolute()} or in a folder above it, as paths start there")
    return "" if way == "." else f"{way}/"


def _rows(report: Report, below: str) -> Iterator[Mapping[str, Any]]:
    """A row of a manifest for each usable image; `below` leads to the folder of images."""
    for split, inspected in zip(report.splits, report.inspected, strict=True):
        metadata = split.metadata
        for row in np.flatnonzero(split.usable()).tolist():
            label, masks, boxes = int(metadata.labels[row]), metadata.masks_of(row), metadata.boxes_of(row)
            regions = [one.mask() for one in masks.ignore if isinstance(one, Region)]
            undecided = run_lengths(np.any(regions, axis=0)) if regions else [*masks.ignore, ""][0]
            path, (width, height) = below + metadata.paths[row], inspected[row].size
            said: dict[str, Any] = {"path": path, "label": label, "split": split.name}
            said |= {"width": width, "height": height, "sha256": inspected[row].checksum}
            there = {
                "image_id": metadata.image_ids[row] if metadata.image_ids[row] != path else "",
                "class_name": metadata.class_names[label] if metadata.class_names else "",
                "boxes": [] if boxes is None else boxes.tolist(),
                "mask": [_column(mask, below) for mask in masks.instances],
                "ignore": below + undecided if undecided and isinstance(undecided, str) else undecided,
            }
            yield said | {name: value for name, value in there.items() if value}


def _column(mask: str | Region, below: str) -> str | dict[str, Any]:
    """A mask as a manifest has it: regions become run lengths."""
    return below + mask if isinstance(mask, str) else run_lengths(mask.mask())
