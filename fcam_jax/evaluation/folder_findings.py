"""One pass over a folder of score maps, image by image in threads; or a row for each image.

In: a `ScoreMapFolder` and the ranks of the true classes. Out: `Findings`, from which every figure follows; or rows.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int

from fcam_jax.evaluation.bootstrap import Bootstrap
from fcam_jax.evaluation.boxes import box_iou, largest_box
from fcam_jax.evaluation.findings import Findings, Measured, measured
from fcam_jax.evaluation.metric import Metric
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.evaluation.score_map_folder import ScoreMapFolder
from fcam_jax.evaluation.threads import in_threads
from fcam_jax.runtime.progress import counted

R = TypeVar("R")

_TOGETHER = 32  # images that are read ahead of those that are measured

Ranks = Int[np.ndarray, " n"] | None


def measure_folder(
    folder: ScoreMapFolder, ranks: Ranks, kinds: Sequence[type[Metric]], step: float, bootstrap: Bootstrap | None
) -> tuple[Findings, list[str]]:
    """Measure every image of a folder once.

    Args:
      folder: score maps with ground truth.
      ranks: how many classes were predicted before each image's true one; None without predictions.
      kinds: metrics, of which those count that the ground truth allows.
      step: distance of the thresholds.
      bootstrap: filled with the images' metrics.

    Returns:
      What was found, and the ids of the images whose map was the same everywhere.

    Raises:
      InputError: for the first image that cannot be used.
    """
    findings = Findings(parts=True, bootstrap=bootstrap)
    constant = []
    task = functools.partial(_measure, folder, ranks, kinds, step)
    for index, (image, is_constant) in enumerate(_over(folder, task, "score maps")):
        findings.add(index, image)
        if is_constant:
            constant.append(folder.image_ids[index])
    return findings, constant


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


def _measure(
    folder: ScoreMapFolder, ranks: Ranks, kinds: Sequence[type[Metric]], step: float, index: int
) -> tuple[Measured, bool]:
    image = folder[index]
    rank = None if ranks is None else int(ranks[index])
    return measured(image.score_map, image.annotation, rank, step, kinds), image.constant


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
