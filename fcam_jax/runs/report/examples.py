"""Pictures of an evaluation: what every method says of the same test images, and its accuracy at every threshold.

In: the evaluations of the methods on one split. Out: `test_grid.png` and, where there are boxes, `box_accuracy.png`.
"""

import pathlib
from collections.abc import Mapping

from fcam_jax.evaluation import result
from fcam_jax.evaluation.boxes import quantise
from fcam_jax.evaluation.result import Evaluation
from fcam_jax.runs.report.curves import BOX_ACCURACY, Line, Plot, save_plot
from fcam_jax.runs.report.localized import best_threshold, localized
from fcam_jax.runs.report.pictures import Example, Panel, save_grid, spread


def save_pictures(folder: pathlib.Path, evaluations: Mapping[str, Evaluation], count: int | None = None) -> None:
    """Save the grid of example images and the curves of box accuracy; nothing where there are no examples.

    Box and mask of a method are those at its own best threshold.

    Args:
      folder: where the files go; made where it does not exist.
      evaluations: by the method's name, all with the same examples in the same order.
      count: at most so many examples, evenly spread; by default all.
    """
    rows = list(zip(*(evaluation.examples for evaluation in evaluations.values()), strict=True))
    if count is not None:
        rows = spread(rows, count)
    if not rows:
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_grid(folder / "test_grid.png", [_row(evaluations, examples) for examples in rows])
    lines = [
        Line(name, evaluation.thresholds, evaluation.curves["MaxBoxAcc"])
        for name, evaluation in evaluations.items()
        if evaluation.curves
    ]
    if lines:
        save_plot([folder / "box_accuracy.png"], Plot(BOX_ACCURACY, lines))


def _row(evaluations: Mapping[str, Evaluation], examples: tuple[result.Example, ...]) -> Example:
    """One image with a panel for every method."""
    image, truth = examples[0].image, examples[0].annotation
    panels = [
        _panel(name, evaluation.metrics, example)
        for (name, evaluation), example in zip(evaluations.items(), examples, strict=True)
    ]
    return Example(image, truth.image_id, f"class {truth.label}", panels, truth.boxes, truth.mask, truth.ignore)


def _panel(name: str, metrics: Mapping[str, float], example: result.Example) -> Panel:
    """A method's map with what it localizes."""
    found = localized(quantise(example.score_map), example.annotation, best_threshold(metrics))
    return Panel(name, example.score_map, found.mask, found.box, found.iou, found.threshold)
