"""Pictures of an evaluation: what every method says of the same test images, and its accuracy at every threshold.

In: the evaluations of the methods on one split. Out: `test_grid.png` and, where there are boxes, `box_accuracy.png`.
"""

import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool

from fcam_jax.evaluation import evaluator
from fcam_jax.evaluation.boxes import box_iou, largest_box, level_thresholds, quantise
from fcam_jax.evaluation.evaluator import Evaluation
from fcam_jax.report.pictures import Example, Panel, save_curves, save_grid
from fcam_jax.types import Annotation

# Of the foreground where there are no boxes to choose one by.
_MASK_THRESHOLD = 0.5


def save_pictures(folder: pathlib.Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Save the grid of example images and the curves of box accuracy; nothing where there are no examples.

    Box and mask of a method are those at its own best threshold.

    Args:
      folder: where the files go; made where it does not exist.
      evaluations: by the method's name, all with the same examples in the same order.
    """
    rows = list(zip(*(evaluation.examples for evaluation in evaluations.values()), strict=True))
    if not rows:
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_grid(folder / "test_grid.png", [_row(evaluations, examples) for examples in rows])
    curves = {
        name: (evaluation.thresholds, evaluation.curves["MaxBoxAcc"])
        for name, evaluation in evaluations.items()
        if evaluation.curves
    }
    if curves:
        x_label = "threshold, share of the map's maximum"
        y_label = "images with IoU of 0.5 or more, percent"
        save_curves(folder / "box_accuracy.png", curves, x_label=x_label, y_label=y_label)


def _row(evaluations: Mapping[str, Evaluation], examples: tuple[evaluator.Example, ...]) -> Example:
    """One image with a panel for every method."""
    image, truth = examples[0].image, examples[0].annotation
    panels = [
        _panel(name, evaluation.metrics, example)
        for (name, evaluation), example in zip(evaluations.items(), examples, strict=True)
    ]
    return Example(image, truth.image_id, f"class {truth.label}", panels, truth.boxes, truth.mask)


def _panel(name: str, metrics: Mapping[str, float], example: evaluator.Example) -> Panel:
    """A method's map with box or mask at the threshold, cut on the 8-bit levels that the metrics cut on."""
    threshold = metrics.get("MaxBoxAcc_threshold", _MASK_THRESHOLD)
    levels = quantise(example.score_map)
    mask = levels > level_thresholds(np.array([threshold]), levels)
    if example.annotation.boxes is None:
        return Panel(name, example.score_map, mask, None, _mask_iou(mask, example.annotation), threshold)
    box = largest_box(example.score_map, threshold)
    iou = float(box_iou(box[None], example.annotation.boxes).max())
    return Panel(name, example.score_map, mask, box, iou, threshold)


def _mask_iou(mask: Bool[np.ndarray, "h w"], truth: Annotation) -> float | None:
    """Overlap of the masks outside of what is undecided; None without a true mask."""
    if truth.mask is None:
        return None
    counted = np.ones_like(mask) if truth.ignore is None else ~truth.ignore | truth.mask
    both, either = mask & truth.mask & counted, (mask | truth.mask) & counted
    return float(both.sum() / max(int(either.sum()), 1))
