"""The one evaluator: a stream of score maps, from a model, a folder or arrays, to what is known of their split.

Threads load and measure a group of images while the next group is made; what is kept does not grow with the images.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from fcam_jax.evaluation.activations import Activations
from fcam_jax.evaluation.bootstrap import Bootstrap, interval
from fcam_jax.evaluation.box_accuracy import BoxAccuracy
from fcam_jax.evaluation.findings import Findings, Measured, figures, measured
from fcam_jax.evaluation.metric import Metric, Scored, found, thresholds
from fcam_jax.evaluation.metrics import kinds
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.evaluation.plausibility import Plausibility
from fcam_jax.evaluation.result import Evaluation, Example
from fcam_jax.evaluation.threads import in_threads
from fcam_jax.runtime.text import listed

R = TypeVar("R")

TOGETHER = 32  # images that are read ahead of those that are measured

Load = tuple[str, Callable[[], Scored]]  # what has maps, such as a table's row, and what loads an image with its map
At = tuple[int, str]  # position of a threshold at which figures are given too, and what their names call it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is measured; of the metrics, those that the ground truth allows."""

    step: float = 0.001
    kinds: tuple[type[Metric], ...] = dataclasses.field(default_factory=kinds)
    bootstrap: int = 0  # replicates for the intervals; 0 gives none
    seed: int = 0
    parts: bool = False  # whether figures of each class and object size are given

    def nothing(self) -> Findings:
        """Findings of no image."""
        return Findings(self.parts, Bootstrap(self.bootstrap, self.seed) if self.bootstrap else None)


def gathered(groups: Iterable[Sequence[Load]], wanted: Wanted, threads: int) -> dict[str, Findings]:
    """What is found, by what has the maps, of a stream's images; those of two groups are held at a time.

    Raises:
      InputError: for the first image that cannot be used.
    """

    def measure(row: str, load: Callable[[], Scored]) -> tuple[str, Measured]:
        return row, measured(load(), wanted.step, wanted.kinds)

    known: dict[str, Findings] = {}
    tasks = ([functools.partial(measure, *one) for one in group] for group in groups)
    for row, image in in_threads(tasks, threads):
        known.setdefault(row, wanted.nothing()).add(image)
    return known


def evaluate_each(
    load: Callable[[int], Scored],
    count: int,
    wanted: Wanted,
    at: At | None = None,
    watched: Callable[[Iterator[Any]], Iterator[Any]] = iter,
) -> Evaluation:
    """Evaluate images at positions 0 to `count`, loaded by several threads.

    `watched` lets groups of `TOGETHER` images pass, e.g. with a progress bar.

    Raises:
      InputError: for the first image that cannot be used.
    """
    groups = ([("", functools.partial(load, i)) for i in group] for group in _positions(count))
    return evaluation(gathered(watched(groups), wanted, os.cpu_count() or 1)[""], wanted, at)


def each(task: Callable[[int], R], count: int) -> Iterator[R]:
    """Results of a task for each position in turn, from all cores."""
    groups = ([functools.partial(task, i) for i in group] for group in _positions(count))
    return in_threads(groups, os.cpu_count() or 1)


def _positions(count: int) -> Iterator[range]:
    return (range(start, min(start + TOGETHER, count)) for start in range(0, count, TOGETHER))


def evaluation(
    findings: Findings, wanted: Wanted, at: At | None = None, examples: Sequence[Example] = ()
) -> Evaluation:
    """What follows from the findings."""
    taus, totals = thresholds(wanted.step), findings.totals
    of = functools.partial(figures, at=at)
    curves = {name: curve for metric in totals.values() for name, curve in metric.curves().items()}
    boxes, pixels, scores = found(totals, BoxAccuracy), found(totals, PixelPrecision), found(totals, Activations)
    counts = {} if boxes is None else {"correct": boxes.correct()}
    if pixels is not None:
        counts["pixels"] = {name: pixels.counts[name] for name in ("foreground", "background")}
    without_object = findings.images - findings.localized if findings.localized else 0
    constant = tuple(image_id for _, image_id in sorted(findings.constant.items()))
    lines = [f"{len(constant)} constant map(s) count as 0 everywhere: {listed(constant)}"] if constant else []
    if without_object:
        lines.append(f"{without_object} image(s) without an object count for classification alone")
    plausible = found(totals, Plausibility)
    replicates = findings.bootstrap.figures(of) if findings.bootstrap else {}
    return Evaluation(
        metrics=of(totals),
        examples=list(examples),
        thresholds=taus,
        curves=curves,
        histogram=None if scores is None else scores.counts["pixels"],
        precision_recall=None if pixels is None else pixels.curve(),
        intervals={name: interval(values) for name, values in replicates.items()},
        replicates=replicates,
        by_size=findings.by_size(),
        by_class=findings.by_class(),
        best_thresholds={
            name: float(taus[place]) for name, place in findings.best().items() if curves.get(name, taus + 1)[place] > 0
        },
        counts=counts,
        constant=constant,
        images=findings.images,
        without_object=without_object,
        warnings=(*lines, *(plausible.doubts() if plausible else ())),
    )
