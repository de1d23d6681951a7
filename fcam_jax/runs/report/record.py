"""What an evaluation leaves in the run's folder for the report: figures and curves as JSON, examples as image files.

    evaluation/<row>.json                   figures of the split and of its parts, intervals, curves, histogram
    evaluation/examples/<row>.jsonl         a line of facts for each kept example
    evaluation/examples/<row>/<key>.png     its score map as 8-bit levels, which is what the metrics cut
    evaluation/examples/<key>.jpg           its image, for all rows
    evaluation/examples/<key>.mask.png      its true mask, if any: 255 object, 128 undecided, 0 background

Training writes it and the report reads it (`runs.py`, `stored_examples.py`); neither knows the other. The list of
examples is written after the files that it names, and the JSON last of all.
"""

import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from fcam_jax.evaluation.activations import BINS
from fcam_jax.evaluation.boxes import quantise
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.evaluation.result import Evaluation, Example
from fcam_jax.runs.report.localized import best_threshold, localized
from fcam_jax.runtime.files import replace_file
from fcam_jax.runtime.text import file_name
from fcam_jax.types import Annotation

EVALUATION, EXAMPLES = "evaluation", "examples"
VERSION = 2
UNDECIDED, OBJECT = 128, 255
# Where a curve was not measured over all images of the split but over the kept examples alone.
FROM_SPLIT, FROM_EXAMPLES = "split", "examples"

_JPEG_QUALITY = 85


def save_record(
    workdir: pathlib.Path,
    row: str,
    evaluation: Evaluation,
    *,
    images: int,
    split: str = "test",
) -> None:
    """Write the record of a method's evaluation; an older one of the same method is replaced.

    Args:
      workdir: the run's folder.
      row: what the tables call the method.
      evaluation: its figures, curves and examples. Without a histogram of all pixels, or, where there are masks,
        without precision and recall over all of them, those of the examples are taken, and the record says so.
      images: number of evaluated images.
      split: of the data that was evaluated.
    """
    threshold = best_threshold(evaluation.metrics)
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
        "precision_recall": _precision_recall(evaluation),
        "histogram": _histogram(evaluation),
    }
    folder = workdir / EVALUATION / EXAMPLES
    own = folder / file_name(row)
    own.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(_save_example(folder, own, example, threshold)) + "\n" for example in evaluation.examples]
    replace_file(folder / f"{file_name(row)}.jsonl", "".join(lines))
    replace_file(workdir / EVALUATION / f"{file_name(row)}.json", json.dumps(record) + "\n")


def _save_example(shared: pathlib.Path, own: pathlib.Path, example: Example, threshold: float) -> dict[str, Any]:
    """Write an example's files; returns its facts."""
    truth = example.annotation
    key = hashlib.sha1(truth.image_id.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:20]
    levels = quantise(example.score_map)
    image = cv2.cvtColor(np.ascontiguousarray(example.image), cv2.COLOR_RGB2BGR)
    replace_file(shared / f"{key}.jpg", _encoded(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)), sync=False)
    replace_file(own / f"{key}.png", _encoded(".png", levels), sync=False)
    if truth.mask is not None:
        replace_file(shared / f"{key}.mask.png", _encoded(".png", _mask_levels(truth)), sync=False)
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


def _mask_levels(truth: Annotation) -> UInt8[np.ndarray, "h w"]:
    assert truth.mask is not None
    levels = np.where(truth.mask, OBJECT, 0)
    if truth.ignore is not None:
        levels[truth.ignore & ~truth.mask] = UNDECIDED
    return levels.astype(np.uint8)


def _histogram(evaluation: Evaluation) -> dict[str, Any]:
    if evaluation.histogram is not None:
        return {"counts": evaluation.histogram.tolist(), "source": FROM_SPLIT}
    counts = np.zeros(BINS, np.int64)
    for example in evaluation.examples:
        counts += np.histogram(example.score_map, BINS, (0, 1))[0]
    return {"counts": counts.tolist(), "source": FROM_EXAMPLES}


def _precision_recall(evaluation: Evaluation) -> dict[str, Any] | None:
    curve, source = evaluation.precision_recall, FROM_SPLIT
    masked = [example for example in evaluation.examples if example.annotation.mask is not None]
    if curve is None and any(np.any(example.annotation.mask) for example in masked):
        total = PixelPrecision.empty(_step(evaluation.thresholds))
        for example in masked:
            total = total.update(example.score_map, example.annotation)
        curve, source = total.curve(), FROM_EXAMPLES
    if curve is None:
        return None
    return {"precision": curve[0].tolist(), "recall": curve[1].tolist(), "source": source}


def _step(taus: Float[np.ndarray, " t"]) -> float:
    """The distance of the thresholds."""
    return float(taus[1]) if len(taus) > 1 else 1.0


def _encoded(kind: str, pixels: UInt8[np.ndarray, "..."], settings: Sequence[int] = ()) -> bytes:
    done, data = cv2.imencode(kind, pixels, list(settings))
    assert done
    return data.tobytes()
