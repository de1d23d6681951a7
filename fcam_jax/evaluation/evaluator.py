"""The one evaluator: score maps of a split, from a model or from elsewhere, to figures that its ground truth allows.

The device works on the next batch while threads measure the maps of the last one; nothing is kept per image but the
examples that were asked for. Several hosts measure a part each, and all of them have the figures of the whole.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from fcam_jax.errors import InputError
from fcam_jax.evaluation.activations import Activations
from fcam_jax.evaluation.bootstrap import Bootstrap
from fcam_jax.evaluation.box_accuracy import BoxAccuracy, class_ranks
from fcam_jax.evaluation.class_accuracy import ClassAccuracy
from fcam_jax.evaluation.findings import PROTOCOL, Findings, Measured, figures, measured
from fcam_jax.evaluation.hosts import local_part, of_every_host
from fcam_jax.evaluation.insertion_deletion import InsertionDeletion
from fcam_jax.evaluation.metric import Metric, thresholds
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.evaluation.pointing_game import PointingGame
from fcam_jax.evaluation.threads import in_threads
from fcam_jax.types import Annotation, Batch, Localization

# Figures beyond the protocol, given where they are named.
EXTRAS = ("MeanBestIoU", "PointingGame", "InsertionDeletion")

Localize = Callable[[Batch], Mapping[str, Localization]]


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What is measured.

    Attributes:
      threshold_step: distance of the thresholds.
      also: names of `EXTRAS`.
      bootstrap: number of replicates for the intervals; 0 gives none.
      parts: whether figures of each class and object size are given.
      insertion_deletion_steps: of both curves, where InsertionDeletion is named.
    """

    threshold_step: float
    also: tuple[str, ...] = ()
    bootstrap: int = 0
    parts: bool = False
    insertion_deletion_steps: int = 32


@dataclasses.dataclass(frozen=True)
class Example:
    """An image of the split, for pictures.

    Attributes:
      image: RGB in [0, 255].
      annotation: ground truth.
      score_map: of the true class.
      rank: how many classes were predicted before the true one; None without predictions.
      predicted: the class predicted first; None likewise.
    """

    image: UInt8[np.ndarray, "h w 3"]
    annotation: Annotation
    score_map: Float[np.ndarray, "h w"]
    rank: int | None = None
    predicted: int | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the evaluation of one method gives.

    Attributes:
      metrics: figures by name, in percent; "MaxBoxAcc_threshold" and "threshold_at_val" in [0, 1).
      examples: the images that were asked for, in the split's order.
      thresholds: of the curves, in [0, 1).
      curves: box metrics at every threshold by name, in percent; empty where the split has no boxes.
      histogram: pixels of all maps by score, in 256 bins.
      precision_recall: both in [0, 1], from high thresholds to low, over all pixels; None where there are no masks.
      intervals: ends of the figures' 95 % intervals by name; empty without bootstrap.
      by_size: figures, and "images", by the object's share of the image, at the whole split's best thresholds.
      by_class: the same by class.
      constant_maps: number of maps that are the same everywhere; they count, and localize nothing.
      images: number of images that were evaluated.
    """

    metrics: dict[str, float]
    examples: list[Example]
    thresholds: Float[np.ndarray, " t"]
    curves: dict[str, Float[np.ndarray, " t"]]
    histogram: Int[np.ndarray, "256"] | None = None
    precision_recall: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]] | None = None
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    by_size: dict[str, dict[str, float | int]] = dataclasses.field(default_factory=dict)
    by_class: dict[int, dict[str, float | int]] = dataclasses.field(default_factory=dict)
    constant_maps: int = 0
    images: int = 0


def evaluate(
    localize: Localize,
    batches: Iterable[tuple[Batch, list[Annotation]]],
    settings: EvaluationSettings,
    keep: frozenset[int] = frozenset(),
    val_thresholds: Mapping[str, float] | None = None,
) -> dict[str, Evaluation]:
    """Evaluate the score maps of a split. Box metrics need boxes, PxAP needs masks; what the split has is reported.

    Of images with neither, the classification alone is.

    Args:
      localize: by method, score maps of the true class and class scores of a batch.
      batches: this host's images of the split, each once, with their ground truth; the padding of a batch comes last
        and without ground truth. All hosts have the same number of batches.
      settings: what is measured.
      keep: positions in the split of the images to return as examples.
      val_thresholds: by method, the threshold that was best on the validation split; the accuracies there are added to
        the method's figures as "BoxAcc_at_val" and so on, those at the nearest threshold of this evaluation,
        "threshold_at_val".

    Returns:
      The evaluation of every method.

    Raises:
      InputError: for an empty split, or a map or ground truth that cannot be used.
    """
    known: dict[str, _Known] = {}

    def tasks() -> Iterator[list[Callable[[], tuple[str, int, Measured]]]]:
        for batch, annotations in batches:
            group: list[Callable[[], tuple[str, int, Measured]]] = []
            for method, found in localize(batch).items():
                for i, image in enumerate(_images(batch, jax.tree.map(local_part, found), annotations)):
                    position = int(batch.index[i])
                    group.append(functools.partial(_measure, method, position, image, settings))
                    if position in keep:
                        known.setdefault(method, _Known(settings)).examples[position] = image.example
            yield group

    # On one core less than there are: the device, when it is a CPU, needs the others.
    for method, position, measurement in in_threads(tasks(), max(1, (os.cpu_count() or 2) - 1)):
        known.setdefault(method, _Known(settings)).findings.add(position, measurement)
    whole: dict[str, _Known] = {}
    for part in of_every_host(known):
        for method, more in part.items():
            whole.setdefault(method, _Known(settings)).merge(more)
    if not any(one.findings.images for one in whole.values()):
        raise InputError("nothing to evaluate: the split holds no image that can be used")
    taus = val_thresholds or {}
    return {method: _evaluation(one, settings, taus.get(method)) for method, one in whole.items()}


class _Known:
    """What is known of one method."""

    def __init__(self, settings: EvaluationSettings):
        self.findings = Findings(settings.parts, Bootstrap(settings.bootstrap) if settings.bootstrap else None)
        self.examples: dict[int, Example] = {}

    def merge(self, other: "_Known") -> None:
        self.findings.merge(other.findings)
        self.examples |= other.examples


@dataclasses.dataclass(frozen=True)
class _Image:
    """An image of a batch and what a method says of it."""

    example: Example
    rank: int | None
    insertion_deletion: Float[np.ndarray, "2"] | None


def _images(batch: Batch, found: Localization, annotations: Sequence[Annotation]) -> Iterator[_Image]:
    count = len(annotations)
    maps = np.asarray(found.maps)
    ranks: list[int | None] = [None] * count
    predicted = list(ranks)
    if found.logits is not None:
        logits = np.asarray(found.logits)[:count]
        ids = [annotation.image_id for annotation in annotations]
        ranks = class_ranks(logits, np.asarray(batch.labels[:count]), ids).tolist()
        predicted = logits.argmax(axis=1).tolist()
    for i, annotation in enumerate(annotations):
        areas = None if found.insertion_deletion is None else np.asarray(found.insertion_deletion[i])
        example = Example(np.asarray(batch.images[i]), annotation, maps[i], ranks[i], predicted[i])
        yield _Image(example, ranks[i], areas)


def _measure(method: str, position: int, image: _Image, settings: EvaluationSettings) -> tuple[str, int, Measured]:
    kinds: list[type[Metric]] = [*PROTOCOL, ClassAccuracy, Activations]
    if "PointingGame" in settings.also:
        kinds.append(PointingGame)
    example, step = image.example, settings.threshold_step
    found = measured(example.score_map, example.annotation, image.rank, step, kinds)
    if image.insertion_deletion is not None:
        found.metrics.append(InsertionDeletion.of_image(image.insertion_deletion, step))
    return method, position, found


def _evaluation(known: _Known, settings: EvaluationSettings, val_threshold: float | None) -> Evaluation:
    findings, taus = known.findings, thresholds(settings.threshold_step)
    nearest = None if val_threshold is None else int(np.abs(taus - val_threshold).argmin())
    of = functools.partial(
        figures,
        at=None if nearest is None else (nearest, "val"),
        mean_best_iou="MeanBestIoU" in settings.also,
    )
    boxes, pixels = (findings.totals.get(kind) for kind in PROTOCOL)
    activations = findings.totals.get(Activations)
    return Evaluation(
        metrics=of(findings.totals) | ({} if nearest is None else {"threshold_at_val": float(taus[nearest])}),
        examples=[known.examples[position] for position in sorted(known.examples)],
        thresholds=taus,
        curves=boxes.curves() if isinstance(boxes, BoxAccuracy) else {},
        histogram=activations.histogram() if isinstance(activations, Activations) else None,
        precision_recall=pixels.curve() if isinstance(pixels, PixelPrecision) else None,
        intervals=findings.bootstrap.intervals(of) if findings.bootstrap else {},
        by_size=findings.by_size() if settings.parts else {},
        by_class=findings.by_class() if settings.parts else {},
        constant_maps=findings.constant,
        images=findings.images,
    )
