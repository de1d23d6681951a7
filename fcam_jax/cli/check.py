"""Everything that is wrong with a data set, told at once.

    python -m fcam_jax.cli.check --root=DIR [--out=DIR/manifest.jsonl]

Opens every image and mask, lists every problem with its file and line, and ends with a table of the splits. Exits with
status 1 when there are errors. `docs/data/own.md` shows the layouts that a data set may have.
"""

import argparse
import collections
import dataclasses
import itertools
import os
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from fcam_jax.data.folder import report_absent
from fcam_jax.data.layouts import registry as layouts
from fcam_jax.data.layouts.inspection import Inspected, Inspection
from fcam_jax.data.layouts.manifest_writer import prefix, rows, write
from fcam_jax.data.layouts.metadata import Metadata
from fcam_jax.data.layouts.problems import Problem, Problems, printable
from fcam_jax.errors import InputError, unknown_name


@dataclasses.dataclass(frozen=True)
class CheckedSplit:
    """What is known of a split.

    Attributes:
      name: of the split.
      problems: of the split.
      metadata: what describes it; None where it cannot be read.
      inspected: what each image file is.
    """

    name: str
    problems: Problems
    metadata: Metadata | None
    inspected: list[Inspected]

    def usable(self) -> Bool[np.ndarray, " n"]:
        """Which images have no error."""
        broken = self.problems.images()
        image_ids = self.metadata.image_ids if self.metadata else []
        return np.array([image_id not in broken for image_id in image_ids], bool)


def check_split(place: layouts.Place, name: str, num_classes: int, inspection: Inspection) -> CheckedSplit:
    """Look at a split and all its files."""
    problems = Problems()
    try:
        metadata = layouts.read(place, name, num_classes, problems)
    except InputError as error:
        if not any(str(error).startswith(str(told)) for told in problems.errors()):  # it may come from deeper down
            file, _, text = str(error).partition(": ")
            problems.error(file, text)
        return CheckedSplit(name, problems, None, [])
    report_absent(place, metadata, problems)
    return CheckedSplit(name, problems, metadata, inspection.split(metadata, place.images, name, problems))


def overlaps(place: layouts.Place, checked: Sequence[CheckedSplit]) -> list[Problem]:
    """A warning for every image that two splits have, by its file or by the content of its file."""
    problems = Problems()
    first_path: dict[str, str] = {}
    first_content: dict[str, tuple[str, str]] = {}
    for split in checked:
        if split.metadata is None:
            continue
        names = split.metadata.paths or split.metadata.image_ids
        for image_id, name, inspected in zip(split.metadata.image_ids, names, split.inspected, strict=True):
            path = os.path.normpath(name)
            twin = first_content.setdefault(inspected.checksum, (split.name, name)) if inspected.checksum else None
            if first_path.setdefault(path, split.name) != split.name:
                text = f"is in {first_path[path]} and in {split.name}: a leak"
                problems.warn(place.images / name, text, image_id=image_id)
            elif twin is not None and twin[0] != split.name:
                text = f"of {split.name} has the content of {twin[1]} of {twin[0]}: a leak"
                problems.warn(place.images / name, text, image_id=image_id)
    return problems.found


def untrained(place: layouts.Place, checked: Sequence[CheckedSplit]) -> list[Problem]:
    """A warning when classes have no usable training images."""
    problems = Problems()
    for split in checked:
        if split.name == "train" and split.metadata is not None:
            present = set(split.metadata.labels[split.usable()].tolist())
            missing = split.metadata.num_classes - len(present)
            if missing > 0:
                some = (label for label in range(split.metadata.num_classes) if label not in present)
                names = split.metadata.class_names
                shown = [names[label] if names else str(label) for label in itertools.islice(some, 10)]
                problems.warn(place.root, f"{missing} class(es) without training images: {', '.join(shown)}")
    return problems.found


def table(checked: Sequence[CheckedSplit]) -> str:
    """A line for each split."""
    lines = [["split", "images", "classes", "boxes", "masks", "errors", "warnings", "usable"]]
    for split in checked:
        counts = collections.Counter(problem.severity for problem in split.problems.found)
        lines.append([split.name, *map(str, _facts(split.metadata)), str(counts["error"]), str(counts["warning"])])
        lines[-1].append(str(int(split.usable().sum())))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def check(options: argparse.Namespace) -> int:
    """Check a data set and print what is found; returns the exit status.

    Raises:
      InputError: nothing can be made of the data set or the options.
    """
    place = layouts.locate(options.root, options.layout)
    there = layouts.splits(options.root, options.layout)
    names = tuple(options.splits.split(",")) if options.splits else there
    for name in names:
        if name not in there:
            raise unknown_name("split", name, there)
    if options.workers < 1:
        raise InputError(f"--workers={options.workers}: must be at least 1")
    if options.out is not None and options.quick:
        raise InputError("--out needs the content of all images; leave out --quick")
    folder = "" if options.out is None else prefix(options.out, place.images)
    inspection = Inspection(options.quick, options.upright, options.workers)
    checked = [check_split(place, name, options.num_classes, inspection) for name in names]
    common = [*overlaps(place, checked), *untrained(place, checked)]
    problems = dict.fromkeys([*(problem for split in checked for problem in split.problems.found), *common])
    for problem in sorted(problems, key=_order):
        print(f"{problem.severity}: {problem}")
    errors = sum(problem.severity == "error" for problem in problems)
    print(
        f"{printable(str(place.root))}: layout {place.layout}, {errors} error(s), {len(problems) - errors} warning(s)"
    )
    print(table(checked))
    if options.out is not None:
        write(
            options.out,
            (
                row
                for split in checked
                if split.metadata is not None
                for row in rows(split.name, split.metadata, split.usable(), split.inspected, folder)
            ),
        )
        print(f"{printable(str(options.out))}: {sum(int(split.usable().sum()) for split in checked)} images")
    return 1 if errors else 0


def _facts(metadata: Metadata | None) -> tuple[int, int, int, int]:
    """Numbers of images, classes that have some, boxes and masks."""
    if metadata is None:
        return 0, 0, 0, 0
    masks = sum(len(files.instances) for files in metadata.masks or ())
    regions = sum(len(regions.instances) for regions in metadata.regions or ())
    labels = np.unique(metadata.labels[metadata.labels >= 0])
    return len(metadata.image_ids), len(labels), sum(map(len, metadata.boxes or ())), masks + regions


def _order(problem: Problem) -> tuple[bool, str, int, str]:
    return problem.severity == "warning", problem.file, problem.line or 0, problem.text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return check(_parser().parse_args(arguments))
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fcam_jax.cli.check", description="List everything that is wrong with a data set."
    )
    parser.add_argument("--root", required=True, help="the data set's folder")
    parser.add_argument("--layout", default="", help=f"{', '.join(layouts.LAYOUTS)}; by default the one it has")
    parser.add_argument("--num_classes", type=int, default=0, help="by default as many as the data set has")
    parser.add_argument("--splits", default="", help="by default all: train,val,test")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads that decode images")
    parser.add_argument("--quick", action="store_true", help="read no more than the headers of images")
    parser.add_argument("--upright", action="store_true", help="images are meant as their EXIF orientation says")
    parser.add_argument("--out", type=pathlib.Path, help="write a manifest of all usable images there (JSON lines)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
