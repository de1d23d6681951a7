"""One pass over a folder of score maps: everything that is known of the split, image by image in threads, then summed.

In: a `ScoreMapFolder` and the ranks of the true classes. Out: `Findings`, from which every figure follows; or a row for
each image.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int

from fcam_jax.evaluation.bootstrap import Bootstrap
from fcam_jax.evaluation.boxes import box_iou, largest_box
from fcam_jax.evaluation.breakdown import Breakdown, object_size
from fcam_jax.evaluation.evaluator import in_threads, measure
from fcam_jax.evaluation.metric import Metric, Totals, add
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.evaluation.score_map_folder import ScoreMapFolder
from fcam_jax.progress import counted

R = TypeVar("R")

_TOGETHER = 32  # images that are read ahead of those that are measured

Ranks = Int[np.ndarray, " n"] | None


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is known of a split; but for ids, memory does not grow with the number of images.

    Attributes:
      totals: metrics of all images.
      classes: metrics by class.
      sizes: metrics by the object's share of the image, see `object_size`.
      bootstrap: replicates of the metrics, if they were asked for.
      constant: ids of the images whose map was the same everywhere.
    """

    totals: Totals
    classes: Breakdown
    sizes: Breakdown
    bootstrap: Bootstrap | None
    constant: list[str]


@dataclasses.dataclass(frozen=True)
class _Measured:
    metrics: list[Metric]
    size: int
    constant: bool


def measure_folder(
    folder: ScoreMapFolder, ranks: Ranks, kinds: Sequence[type[Metric]], step: float, bootstrap: Bootstrap | None
) -> Findings:
    """Measure every image of a folder once.

    Args:
      folder: score maps with ground truth.
      ranks: how many classes were predicted before each image's true one; None without predictions.
      kinds: metrics, of which those count that the ground truth allows.
      step: distance of the thresholds.
      bootstrap: filled with the images' metrics.

    Raises:
      InputError: for the first image that cannot be used.
    """
    findings = Findings({}, Breakdown(), Breakdown(), bootstrap, [])
    task = functools.partial(_measure, folder, ranks, kinds, step)
    for index, image in enumerate(_over(folder, task, "score maps")):
        add(findings.totals, image.metrics)
        findings.classes.add(int(folder.labels[index]), image.metrics)
        findings.sizes.add(image.size, image.metrics)
        if bootstrap is not None:
            bootstrap.add(index, image.metrics)
        if image.constant:
            findings.constant.append(folder.image_ids[index])
    return findings


def image_rows(folder: ScoreMapFolder, ranks: Ranks, step: float, tau: float | None) -> Iterator[dict[str, Any]]:
    """A row for every image of a folder, in its order; the maps are read once more.

    With boxes a row tells the box of the largest contour at a threshold, its best IoU, and whether that reaches 50 %;
    with masks the PxAP of the image alone, if it has any foreground.

    Args:
      folder: score maps with ground truth.
      ranks: as for `measure_folder`.
      step: distance of the thresholds, for PxAP.
      tau: threshold, for boxes.
    """
    return _over(folder, functools.partial(_row, folder, ranks, step, tau), "rows")


def _over(folder: ScoreMapFolder, task: Callable[[int], R], title: str) -> Iterator[R]:
    """Results of a task for every position of a folder, from all cores, with a progress bar."""
    groups = (
        [functools.partial(task, index) for index in range(start, min(start + _TOGETHER, len(folder)))]
        for start in range(0, len(folder), _TOGETHER)
    )
    return counted(in_threads(groups, os.cpu_count() or 1), title, len(folder), "image")


def _measure(folder: ScoreMapFolder, ranks: Ranks, kinds: Sequence[type[Metric]], step: float, index: int) -> _Measured:
    image = folder[index]
    rank = None if ranks is None else int(ranks[index])
    return _Measured(
        measure(image.score_map, image.annotation, rank, step, kinds),
        object_size(image.annotation, image.score_map.shape),
        image.constant,
    )


def _row(folder: ScoreMapFolder, ranks: Ranks, step: float, tau: float | None, index: int) -> dict[str, Any]:
    image = folder[index]
    annotation = image.annotation
    row: dict[str, Any] = {"image_id": annotation.image_id, "label": annotation.label}
    if ranks is not None:
        row["rank"] = int(ranks[index])
    if annotation.boxes is not None and tau is not None:
        box = largest_box(image.score_map, tau)
        iou = float(box_iou(box[None], annotation.boxes).max())
        corners = dict(zip(("x0", "y0", "x1", "y1"), box.tolist(), strict=True))
        return row | {"threshold": round(tau, 10), "iou": iou, **corners, "correct": int(iou >= 0.5)}
    precision = PixelPrecision.empty(step).measure(image.score_map, annotation)
    return row | {"PxAP": precision.compute()["PxAP"] if precision.counts["foreground"].any() else ""}
