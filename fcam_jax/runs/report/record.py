"""What an evaluation leaves in the run's folder for the report: figures and curves as JSON, examples as image files.

    evaluation/<row>.json                   figures of the split and of its parts, intervals, curves, histogram
    evaluation/examples/<row>.jsonl         a line of facts for each kept example
    evaluation/examples/<row>/<key>.png     its score map as 8-bit levels, which is what the metrics cut
    evaluation/examples/<key>.jpg           its image, for all rows
    evaluation/examples/<key>.mask.png      its true mask, if any: 255 object, 128 undecided, 0 background

`runs.py` reads it. The list of examples is written after the files that it names, and the JSON last of all.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Int, UInt8

from fcam_jax.evaluation.box_accuracy import DEFAULT_THRESHOLD, threshold_of
from fcam_jax.evaluation.boxes import box_iou, level_thresholds, quantise
from fcam_jax.evaluation.component_tree import contours
from fcam_jax.evaluation.result import Evaluation, Example
from fcam_jax.runs.report.drawing import encoded
from fcam_jax.runtime.files import replace_file
from fcam_jax.runtime.text import file_name
from fcam_jax.types import Annotation

EVALUATION, EXAMPLES = "evaluation", "examples"
VERSION = 2
UNDECIDED, OBJECT = 128, 255


@dataclasses.dataclass(frozen=True)
class Localized:
    """A map cut at a threshold."""

    threshold: float  # share of the map's maximum, in [0, 1)
    mask: Bool[np.ndarray, "h w"]  # True above it
    # of the mask's largest contour, corners ``x0, y0, x1, y1``; None where the ground truth has no boxes
    box: Int[np.ndarray, " 4"] | None
    iou: float | None  # of the box with the best true box, or, without boxes, of the masks; None without ground truth


def best_threshold(figures: Mapping[str, float]) -> float:
    """The threshold that is best for the whole split, from a method's figures."""
    tau = threshold_of(figures)
    return DEFAULT_THRESHOLD if tau is None else tau


def localized(levels: UInt8[np.ndarray, "h w"], truth: Annotation, threshold: float) -> Localized:
    """Cut a map on its levels, see `quantise`. What the truth, which is in its frame, leaves open is not compared."""
    level = level_thresholds(np.array([threshold]), levels)[0]
    mask = levels > level
    if truth.boxes is not None:
        box = contours(levels).largest[level]
        return Localized(threshold, mask, box, float(box_iou(box[None], truth.boxes).max()))
    if truth.mask is None:
        return Localized(threshold, mask, None, None)
    counted = np.ones_like(mask) if truth.ignore is None else ~truth.ignore | truth.mask
    both, either = mask & truth.mask & counted, (mask | truth.mask) & counted
    return Localized(threshold, mask, None, float(both.sum() / max(int(either.sum()), 1)))


def save_record(workdir: pathlib.Path, row: str, evaluation: Evaluation, *, images: int, split: str = "test") -> None:
    """Write the record of an evaluation, which has a histogram, into a run's folder; the row names its method.

    An older one of the same method is replaced.
    """
    curve, histogram = evaluation.precision_recall, evaluation.histogram
    assert histogram is not None
    record = {
        "version": VERSION,
        "row": row,
        "split": split,
        "images": images,
        "metrics": {name: float(value) for name, value in evaluation.metrics.items()},
        "thresholds": evaluation.thresholds.tolist(),
        "curves": {name: np.asarray(curve).tolist() for name, curve in evaluation.curves.items()},
        "intervals_95": evaluation.intervals,
        "by_size": evaluation.by_size,
        "by_class": evaluation.by_class,
        "precision_recall": None if curve is None else {"precision": curve[0].tolist(), "recall": curve[1].tolist()},
        "histogram": {"counts": histogram.tolist()},
    }
    folder, threshold = workdir / EVALUATION / EXAMPLES, best_threshold(evaluation.metrics)
    facts = (_save_example(folder, row, example, threshold) for example in evaluation.examples)
    replace_file(folder / f"{file_name(row)}.jsonl", "".join(f"{json.dumps(one)}\n" for one in facts))
    replace_file(workdir / EVALUATION / f"{file_name(row)}.json", json.dumps(record) + "\n")


def _save_example(folder: pathlib.Path, row: str, example: Example, threshold: float) -> dict[str, Any]:
    """Write an example's files; returns its facts."""
    truth, levels = example.annotation, quantise(example.score_map)
    key = hashlib.sha1(truth.image_id.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:20]
    files = {
        f"{key}.jpg": encoded(example.image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 85),
        f"{file_name(row)}/{key}.png": encoded(levels),
    }
    if truth.mask is not None:
        mask = np.zeros(truth.mask.shape, np.uint8) if truth.ignore is None else np.uint8(UNDECIDED) * truth.ignore
        files[f"{key}.mask.png"] = encoded(np.where(truth.mask, np.uint8(OBJECT), mask))
    for name, data in files.items():
        replace_file(folder / name, data, sync=False)
    found = localized(levels, truth, threshold)
    return {
        "image_id": truth.image_id,
        "key": key,
        "label": int(truth.label),
        "boxes": None if truth.boxes is None else truth.boxes.tolist(),
        "mask": truth.mask is not None,
        "threshold": float(threshold),
        "box": None if found.box is None else found.box.tolist(),
        "iou": found.iou,
        "rank": example.rank,
        "predicted": example.predicted,
    }
