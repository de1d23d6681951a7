"""The one evaluator: score maps of a split from a model, figures from the metrics that its ground truth allows.

The device works on the next batch while threads measure the maps of the last one; nothing is kept per image but the
examples that were asked for.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jaxtyping import Float, UInt8

from fcam_jax.errors import InputError
from fcam_jax.evaluation.box_accuracy import BoxAccuracy, class_ranks
from fcam_jax.evaluation.metric import Metric, thresholds
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.types import Annotation, Batch, Localization


@dataclasses.dataclass(frozen=True)
class Example:
    """An image of the split with its ground truth and its score map, for pictures."""

    image: UInt8[np.ndarray, "h w 3"]
    annotation: Annotation
    score_map: Float[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives.

    Attributes:
      metrics: figures by name, in percent; "MaxBoxAcc_threshold" in [0, 1).
      examples: the images that were asked for, in the split's order.
      thresholds: of the curves, in [0, 1).
      curves: box metrics at every threshold by name, in percent; empty where the split has no boxes.
    """

    metrics: dict[str, float]
    examples: list[Example]
    thresholds: Float[np.ndarray, " t"]
    curves: dict[str, Float[np.ndarray, " t"]]


def evaluate(
    localize: Callable[[Batch], Localization],
    batches: Iterable[tuple[Batch, list[Annotation]]],
    threshold_step: float,
    keep: frozenset[int] = frozenset(),
) -> Evaluation:
    """Evaluate the score maps of a split. Box metrics need boxes, PxAP needs masks; what the split has is reported.

    Args:
      localize: score maps of the true class and class scores of a batch.
      batches: every image of the split once, with its ground truth; padding comes last and without ground truth.
      threshold_step: distance of the thresholds.
      keep: positions in the split of the images to return as examples.

    Raises:
      InputError: for an empty split, a split without boxes and masks, or a map or ground truth that cannot be used.
    """
    totals: dict[type[Metric], Metric] = {}
    examples: list[Example] = []
    # On one core less than there are: the device, when it is a CPU, needs the others.
    with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1)) as pool:
        waiting: list[concurrent.futures.Future[list[Metric]]] = []
        for batch, annotations in batches:
            found = jax.device_get(localize(batch))
            _add(totals, waiting)
            ids = [annotation.image_id for annotation in annotations]
            ranks = class_ranks(found.logits[: len(ids)], np.asarray(batch.labels[: len(ids)]), ids)
            waiting = [
                pool.submit(_measure, found.maps[i], annotation, int(ranks[i]), threshold_step)
                for i, annotation in enumerate(annotations)
            ]
            examples += [
                Example(np.asarray(batch.images[i]), annotation, found.maps[i])
                for i, annotation in enumerate(annotations)
                if int(batch.index[i]) in keep
            ]
        _add(totals, waiting)
    if not totals:
        raise InputError("nothing to evaluate: the split is empty, or has neither boxes nor masks")
    metrics = {name: value for total in totals.values() for name, value in total.compute().items()}
    boxes = totals.get(BoxAccuracy)
    curves = boxes.curves() if isinstance(boxes, BoxAccuracy) else {}
    return Evaluation(metrics, examples, thresholds(threshold_step), curves)


def _measure(score_map: np.ndarray, annotation: Annotation, rank: int, step: float) -> list[Metric]:
    """The metrics that the image's ground truth allows, of this image alone."""
    metrics: list[Metric] = []
    if annotation.boxes is not None:
        metrics.append(BoxAccuracy.empty(step).measure(score_map, annotation, rank))
    if annotation.mask is not None:
        metrics.append(PixelPrecision.empty(step).measure(score_map, annotation, rank))
    return metrics


def _add(totals: dict[type[Metric], Metric], waiting: list[concurrent.futures.Future[list[Metric]]]) -> None:
    for future in waiting:
        for metric in future.result():
            kind = type(metric)
            totals[kind] = totals[kind].merge(metric) if kind in totals else metric
