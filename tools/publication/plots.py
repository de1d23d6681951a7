"""Plots of published results and grids of examples, as files beside the data.

In: `Published`, or a run's folder. Out: `<name>-box_accuracy` and `<name>-activations` as PNG, of the data
alone; `<name>-found.jpg` and `-missed.jpg` of a run.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from fcam_jax.errors import InputError
from fcam_jax.runs.report.curves import BOX_ACCURACY, Line, save_plot
from fcam_jax.runs.report.figures import ACTIVATIONS, activations, grids
from fcam_jax.runs.report.paper import main_rows
from fcam_jax.runs.report.pictures import save_grid
from fcam_jax.runs.report.runs import StoredEvaluation, StoredExample, StoredRun, read_examples, read_pixels
from tools.publication.data import CURVE, Published
from tools.publication.groups import pairs, records

EXAMPLES = 8
_NOTE = "solid: F-CAM on\ndashed: the CAM itself"


def save_plots(path: pathlib.Path, data: Published) -> list[pathlib.Path]:
    """Save the plots: a CAM's line is dashed, that of F-CAM on it solid, each the mean over seeds.

    Args:
      path: the file of data, which the plots lie beside.
      data: what it holds.

    Returns:
      The files; none where no run has F-CAM.
    """
    accuracy, values = [], []
    for pair in pairs(data.runs):
        for row, dashed in ((pair.fcam, False), (pair.cam, True)):
            found = [] if row is None else [record for _, record in records(row)]
            curves = [record for record in found if CURVE in record.curves]
            if curves:
                accuracy.append(_mean_curve(pair.title, curves, dashed))
            if found:
                values.append(activations(pair.title, [record.histogram for record in found], dashed))
    saved = []
    for name, axes, lines in (("box_accuracy", BOX_ACCURACY, accuracy), ("activations", ACTIVATIONS, values)):
        if lines:
            saved.append(beside(path, f"{name}.png"))
            save_plot([saved[-1]], axes, lines, _NOTE)
    return saved


def save_examples(path: pathlib.Path, run: StoredRun) -> list[pathlib.Path]:
    """Save grids of the examples that the last of a run's main methods finds, and of those that it misses.

    Args:
      path: the file of data, which the grids lie beside.
      run: with its folder.

    Returns:
      The files; a grid without examples is not written.
    """
    rows = main_rows([record.row for record in run.records])
    examples, _ = read_examples(run.folder, rows, run.class_names)
    saved = []
    for name, lines in grids(rows, list(filter(_is_readable, examples)), EXAMPLES).items():
        saved.append(beside(path, f"{name}.jpg"))
        save_grid(saved[-1], lines)
    return saved


def beside(path: pathlib.Path, name: str) -> pathlib.Path:
    """The path of a file that belongs to a file of data."""
    return path.with_name(f"{path.stem}-{name}")


def _mean_curve(name: str, found: Sequence[StoredEvaluation], dashed: bool) -> Line:
    """The mean of curves at the thresholds of the first."""
    x = found[0].thresholds
    y = np.mean([np.interp(x, record.thresholds, record.curves[CURVE]) for record in found], axis=0)
    return Line(name, x, y, dashed=dashed)


def _is_readable(example: StoredExample) -> bool:
    try:
        read_pixels(example)
    except InputError:
        return False
    return True
