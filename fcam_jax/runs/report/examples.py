"""Pictures of an evaluation: what every method says of the same test images, and its accuracy at every threshold.

In: the evaluations of the methods on one split. Out: `test_grid.png` and, where there are boxes, `box_accuracy.png`.
"""

import pathlib
from collections.abc import Mapping

from fcam_jax.evaluation.boxes import quantise
from fcam_jax.evaluation.metrics import localizing
from fcam_jax.evaluation.result import Evaluation, Example
from fcam_jax.runs.class_names import ClassNames, class_title
from fcam_jax.runs.report.curves import BOX_ACCURACY, Line, Plot, save_plot
from fcam_jax.runs.report.localized import best_threshold, localized
from fcam_jax.runs.report.pictures import GridRow, Panel, save_grid, spread


def save_pictures(
    folder: pathlib.Path,
    evaluations: Mapping[str, Evaluation],
    count: int | None = None,
    class_names: ClassNames | None = None,
) -> None:
    """Save the grid of example images and the curves of box accuracy; nothing where there are no examples.

    Box and mask of a method are those at its own best threshold.

    Args:
      folder: where the files go; made where it does not exist.
      evaluations: by the method's name, all with the same examples in the same order.
      count: at most so many examples, evenly spread; by default all.
      class_names: by label.
    """
    rows = list(zip(*(evaluation.examples for evaluation in evaluations.values()), strict=True))
    if count is not None:
        rows = spread(rows, count)
    if not rows:
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_grid(folder / "test_grid.png", [_row(evaluations, examples, class_names) for examples in rows])
    lines = [
        Line(name, one.thresholds, one.curves[localizing(one.curves)])
        for name, one in evaluations.items()
        if localizing(one.curves)
    ]
    if lines:
        save_plot([folder / "box_accuracy.png"], Plot(BOX_ACCURACY, lines))


def _row(evaluations: Mapping[str, Evaluation], examples: tuple[Example, ...], names: ClassNames | None) -> GridRow:
    """One image with a panel for every method."""
    image, truth = examples[0].image, examples[0].annotation
    panels = [
        Panel(name, one.score_map, localized(quantise(one.score_map), truth, best_threshold(evaluation.metrics)))
        for (name, evaluation), one in zip(evaluations.items(), examples, strict=True)
    ]
    return GridRow(image, truth, class_title(names, truth.label), panels)
