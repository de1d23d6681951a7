"""The one evaluator: a stream of score maps, from a model, a folder or arrays, to what is known of their split.

Threads measure a group of images while the next group is made; nothing is kept per image but what goes into sums.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from fcam_jax.evaluation.activations import Activations
from fcam_jax.evaluation.bootstrap import Bootstrap
from fcam_jax.evaluation.box_accuracy import BoxAccuracy
from fcam_jax.evaluation.findings import Findings, Measured, Sample, figures, measured
from fcam_jax.evaluation.metric import Metric, found, thresholds
from fcam_jax.evaluation.metrics import kinds
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.evaluation.result import Evaluation, Example
from fcam_jax.evaluation.threads import in_threads

R = TypeVar("R")

TOGETHER = 32  # images that are read ahead of those that are measured

Watched = Callable[[Iterator[Any]], Iterator[Any]]

# What has maps, such as the row of a table, and the image once it is there.
Load = tuple[str, Callable[[], Sample]]


@runtime_checkable
class Samples(Protocol):
    """Images of which each can be had by its position, from several threads."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Sample: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is measured.

    Attributes:
      step: distance of the thresholds.
      kinds: metrics, of which those count that the ground truth allows.
      bootstrap: number of replicates for the intervals; 0 gives none.
      seed: of the replicates.
      parts: whether figures of each class and object size are given.
    """

    step: float = 0.001
    kinds: tuple[type[Metric], ...] = dataclasses.field(default_factory=kinds)
    bootstrap: int = 0
    seed: int = 0
    parts: bool = False

    def nothing(self) -> Findings:
        """Findings of no image."""
        return Findings(self.parts, Bootstrap(self.bootstrap, self.seed) if self.bootstrap else None)


def gathered(groups: Iterable[Sequence[Load]], wanted: Wanted, threads: int) -> dict[str, Findings]:
    """Measure every image of a stream once.

    Args:
      groups: images; those of two groups are held at a time.
      wanted: what is measured.
      threads: number of threads that load and measure.

    Returns:
      What was found, by what has the maps.

    Raises:
      InputError: for the first image that cannot be used.
    """

    def measure(row: str, load: Callable[[], Sample]) -> tuple[str, Measured]:
        return row, measured(load(), wanted.step, wanted.kinds)

    tasks = ([functools.partial(measure, *one) for one in group] for group in groups)
    known: dict[str, Findings] = {}
    for row, image in in_threads(tasks, threads):
        known.setdefault(row, wanted.nothing()).add(image)
    return known


def evaluate_each(
    samples: Samples, wanted: Wanted, at: tuple[int, str] | None = None, watched: Watched = iter
) -> Evaluation:
    """Evaluate images, each once.

    Args:
      samples: the images.
      wanted: what is measured.
      at: position of a threshold at which figures are given too, and what their names call it.
      watched: lets groups of `TOGETHER` images pass, e.g. with a progress bar.

    Raises:
      InputError: for the first image that cannot be used.
    """
    groups = ([("", functools.partial(samples.__getitem__, i)) for i in group] for group in _positions(samples))
    return evaluation(gathered(watched(groups), wanted, os.cpu_count() or 1)[""], wanted, at)


def each(samples: Samples, task: Callable[[Sample], R]) -> Iterator[R]:
    """Results of a task for each image in turn, from all cores."""
    groups = ([functools.partial(lambda i: task(samples[i]), i) for i in group] for group in _positions(samples))
    return in_threads(groups, os.cpu_count() or 1)


def _positions(samples: Samples) -> Iterator[range]:
    return (range(start, min(start + TOGETHER, len(samples))) for start in range(0, len(samples), TOGETHER))


def evaluation(
    findings: Findings, wanted: Wanted, at: tuple[int, str] | None = None, examples: Sequence[Example] = ()
) -> Evaluation:
    """What follows from the findings; `at` as for `evaluate_each`."""
    taus, totals = thresholds(wanted.step), findings.totals
    of = functools.partial(figures, at=at)
    boxes, pixels, scores = found(totals, BoxAccuracy), found(totals, PixelPrecision), found(totals, Activations)
    counts = {} if boxes is None else {"correct": boxes.correct()}
    if pixels is not None:
        counts["pixels"] = {name: pixels.counts[name] for name in ("foreground", "background")}
    return Evaluation(
        metrics=of(totals),
        examples=list(examples),
        thresholds=taus,
        curves={name: curve for metric in totals.values() for name, curve in metric.curves().items()},
        histogram=None if scores is None else scores.counts["pixels"],
        precision_recall=None if pixels is None else pixels.curve(),
        intervals=findings.bootstrap.intervals(of) if findings.bootstrap else {},
        by_size=findings.by_size(),
        by_class=findings.by_class(),
        best_thresholds={name: float(taus[place]) for name, place in findings.best().items()},
        counts=counts,
        constant=tuple(findings.constant[position] for position in sorted(findings.constant)),
        images=findings.images,
    )
