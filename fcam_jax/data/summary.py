"""What a run says of its data before it begins: splits, classes, ground truth, what the checker finds in a sample."""

import collections
import re
from collections.abc import Mapping, Sequence

import numpy as np

from fcam_jax.data.checking import Check, Report
from fcam_jax.data.folder import FolderSource
from fcam_jax.data.layouts.problems import Problem
from fcam_jax.data.source import Source
from fcam_jax.runtime.text import listed, printable, shorten

SAMPLE = Check(most=(1000, 32))
_SHOWN = 10  # findings, and classes
_LETTERS = 400  # of a line about a finding


def summary(sources: Mapping[str, Source]) -> list[str]:
    """Lines on the splits of a data set, and on what is found in a sample of their images."""
    lines = [f"{split}: {of_split(source)}" for split, source in sources.items()]
    found = [source.described for source in sources.values() if isinstance(source, FolderSource)]
    if found:
        report = SAMPLE.look_into(found)
        kept = {image_id for split in found for image_id in split.metadata.image_ids}
        told = [one for one in report.problems if one.image_id is None or one.image_id in kept]  # not what is left out
        lines += [*findings(told), _looked_at(report)]
    return lines


def of_split(source: Source) -> str:
    """Images, classes and ground truth of a split, and what it leaves out."""
    counts = np.bincount(source.labels(), minlength=source.num_classes)
    known = source.class_names or [""] * source.num_classes
    names = [name or f"class {label}" for label, name in enumerate(known)]
    there = [f"{shorten(printable(names[label]), 40)} {counts[label]}" for label in np.flatnonzero(counts)[:_SHOWN]]
    more = int((counts > 0).sum()) - len(there)
    few, many = counts[counts > 0].min(initial=counts.max()), counts.max()
    classes = ", ".join(there)
    if more:
        classes += f" and {more} more; {few} to {many} each" if few < many else f" and {more} more"
    parts = [f"{len(source)} images of {(counts > 0).sum()} classes ({classes})", _truth(source)]
    empty = [printable(names[label]) for label in np.flatnonzero(counts == 0)]
    if empty:
        parts.append(f"none of {shorten(listed(empty), 200)}")
    if source.left_out:
        parts.append(f"{len(source.left_out)} left out: {shorten(source.left_out[0], 300)}")
    return "; ".join(parts)


def _truth(source: Source) -> str:
    if not isinstance(source, FolderSource):
        return "with " + " and ".join(source.truth or ("neither boxes nor masks",))
    metadata = source.described.metadata
    boxes, masks = metadata.boxes or (), [some.instances for some in metadata.masks or ()]
    kinds = {"boxes": boxes, "masks": masks}
    told = [f"{sum(map(len, some))} {kind} in {sum(map(bool, map(len, some)))} images" for kind, some in kinds.items()]
    return ", ".join(text for text in told if not text.startswith("0 ")) or "no boxes, no masks"


def findings(problems: Sequence[Problem]) -> list[str]:
    """One line for all problems that differ in numbers and files alone."""
    alike = collections.defaultdict(list)
    for problem in problems:
        alike[problem.severity, re.sub(r"\d+|'[^']*'", "", problem.text)].append(problem)
    lines = []
    for (severity, _), (first, *others) in list(alike.items())[:_SHOWN]:
        more = f" (and {len(others)} more like it)" if others else ""
        lines.append(f"{severity}: {shorten(str(first), _LETTERS)}{more}")
    return lines + ([f"{len(alike) - _SHOWN} more kinds of findings"] if len(alike) > _SHOWN else [])


def _looked_at(report: Report) -> str:
    images = sum(len(split.metadata.image_ids) for split in report.splits)
    opened, decoded = report.opened
    every = "" if decoded == images else f"; fcam check --root={report.place.root} looks at all"
    return f"of {images} images, {opened} headers and {decoded} whole files were looked at{every}"
