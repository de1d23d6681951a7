"""The one evaluator: score maps of a split, from a model or from elsewhere, to figures that its ground truth allows.

The device works on the next batch while threads measure the maps of the last one; nothing is kept per image but the
examples that were asked for.
"""

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from fcam_jax.errors import InputError
from fcam_jax.evaluation.activations import Activations
from fcam_jax.evaluation.box_accuracy import BoxAccuracy, class_ranks
from fcam_jax.evaluation.metric import Metric, Totals, add, checked_score_map, thresholds
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.types import Annotation, Batch, Localization

R = TypeVar("R")

PROTOCOL: tuple[type[Metric], ...] = (BoxAccuracy, PixelPrecision)
KINDS: tuple[type[Metric], ...] = (*PROTOCOL, Activations)


@dataclasses.dataclass(frozen=True)
class Example:
    """An image of the split, for pictures.

    Attributes:
      image: RGB in [0, 255].
      annotation: ground truth.
      score_map: of the true class.
      rank: how many classes were predicted before the true one; None without predictions.
      predicted: the class predicted first.
    """

    image: UInt8[np.ndarray, "h w 3"]
    annotation: Annotation
    score_map: Float[np.ndarray, "h w"]
    rank: int | None = None
    predicted: int | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives.

    Attributes:
      metrics: figures by name, in percent; "MaxBoxAcc_threshold" in [0, 1).
      examples: the images that were asked for, in the split's order.
      thresholds: of the curves, in [0, 1).
      curves: box metrics at every threshold by name, in percent; empty where the split has no boxes.
      histogram: pixels of all maps by score, in 256 bins.
      precision_recall: both in [0, 1], from high thresholds to low, over all pixels; None where there are no masks.
    """

    metrics: dict[str, float]
    examples: list[Example]
    thresholds: Float[np.ndarray, " t"]
    curves: dict[str, Float[np.ndarray, " t"]]
    histogram: Int[np.ndarray, "256"] | None = None
    precision_recall: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]] | None = None


def evaluate(
    localize: Callable[[Batch], Localization],
    batches: Iterable[tuple[Batch, list[Annotation]]],
    threshold_step: float,
    keep: frozenset[int] = frozenset(),
    val_threshold: float | None = None,
) -> Evaluation:
    """Evaluate the score maps of a split. Box metrics need boxes, PxAP needs masks; what the split has is reported.

    Args:
      localize: score maps of the true class and class scores of a batch.
      batches: every image of the split once, with its ground truth; padding comes last and without ground truth.
      threshold_step: distance of the thresholds.
      keep: positions in the split of the images to return as examples.
      val_threshold: the threshold that was best on the validation split; the accuracies there are added to the figures
        as "BoxAcc_at_val" and so on, those at the nearest threshold of this evaluation.

    Raises:
      InputError: for an empty split, a split without boxes and masks, or a map or ground truth that cannot be used.
    """
    examples: list[Example] = []

    def tasks() -> Iterator[list[Callable[[], list[Metric]]]]:
        for batch, annotations in batches:
            found = jax.device_get(localize(batch))
            ids = [annotation.image_id for annotation in annotations]
            ranks = class_ranks(found.logits[: len(ids)], np.asarray(batch.labels[: len(ids)]), ids)
            yield [
                functools.partial(measure, found.maps[i], annotation, int(ranks[i]), threshold_step, KINDS)
                for i, annotation in enumerate(annotations)
            ]
            examples.extend(
                Example(
                    np.asarray(batch.images[i]),
                    annotation,
                    found.maps[i],
                    int(ranks[i]),
                    int(found.logits[i].argmax()),
                )
                for i, annotation in enumerate(annotations)
                if int(batch.index[i]) in keep
            )

    totals: Totals = {}
    # On one core less than there are: the device, when it is a CPU, needs the others.
    for metrics in in_threads(tasks(), max(1, (os.cpu_count() or 2) - 1)):
        add(totals, metrics)
    if not totals.keys() & set(PROTOCOL):
        raise InputError("nothing to evaluate: the split is empty, or has neither boxes nor masks")
    figures = {name: value for total in totals.values() for name, value in total.compute().items()}
    boxes, pixels, activations = (totals.get(kind) for kind in KINDS)
    if isinstance(boxes, BoxAccuracy) and val_threshold is not None:
        nearest = int(np.abs(thresholds(threshold_step) - val_threshold).argmin())
        figures |= boxes.at(dict.fromkeys(boxes.best(), nearest), "val")
    return Evaluation(
        figures,
        examples,
        thresholds(threshold_step),
        boxes.curves() if isinstance(boxes, BoxAccuracy) else {},
        activations.histogram() if isinstance(activations, Activations) else None,
        pixels.curve() if isinstance(pixels, PixelPrecision) else None,
    )


def in_threads(groups: Iterable[Sequence[Callable[[], R]]], threads: int) -> Iterator[R]:
    """The results of tasks in order; while a group is made, the one before it is worked on, and none before that waits.

    Args:
      groups: tasks; what they hold of memory is held for two groups at a time.
      threads: number of threads that share the work.
    """
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        waiting: list[concurrent.futures.Future[R]] = []
        for group in groups:
            started = [pool.submit(task) for task in group]
            for future in waiting:
                yield future.result()
            waiting = started
        for future in waiting:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def measure(
    score_map: np.ndarray,
    annotation: Annotation,
    rank: int | None,
    step: float,
    kinds: Sequence[type[Metric]] = PROTOCOL,
) -> list[Metric]:
    """Metrics of one image alone, of those kinds that its ground truth allows; arguments as in `Metric.measure`."""
    checked = checked_score_map(score_map, annotation.image_id)
    return [
        kind.empty(step).measure_checked(checked, annotation, rank) for kind in kinds if kind.measurable(annotation)
    ]
