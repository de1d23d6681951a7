"""The paper's figures for one's own runs: curves over threshold, epoch and background fraction, grids of examples.

In: configurations with their runs. Out: PNG and SVG files in a folder, and what the page says of them.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from fcam_jax.configuration.flat import setting
from fcam_jax.evaluation.activations import BINS
from fcam_jax.evaluation.metrics import localizing, selecting
from fcam_jax.runs.report.aggregate import BACKGROUND_FRACTION, Configuration, table_rows
from fcam_jax.runs.report.curves import BOX_ACCURACY, Axes, Line, Plot, save_plot
from fcam_jax.runs.report.localized import localized
from fcam_jax.runs.report.page import PageFigure
from fcam_jax.runs.report.paper import main_rows
from fcam_jax.runs.report.pictures import GridRow, Panel, save_grid, spread
from fcam_jax.runs.report.runs import Histogram, StoredEvaluation
from fcam_jax.runs.report.simulation import FACTORS, pxap_by_factor
from fcam_jax.runs.report.stored_examples import StoredExample, read_pixels
from fcam_jax.runtime.text import file_name
from fcam_jax.types import Annotation

ACTIVATIONS = Axes("value of the map", "pixels in a bin of 1/256, percent", y_powers=10)

_GRID_ROWS = 12
_SIMULATED = 500
_FOUND = 0.5  # IoU
_CLASSIFICATION = "top1_cls"


def configuration_figures(folder: pathlib.Path, one: Configuration) -> list[PageFigure]:
    """The plots of one configuration; those whose data it has not are left out. Every seed has its own line."""
    records = [record for row in _main_first(one.rows()) for record in one.records(row)]
    precise = [record for record in records if record.precision_recall is not None]
    figures = []
    if lines := [Line(r.row, r.thresholds, r.curves[by]) for r in records if (by := localizing(r.curves))]:
        caption = "Share of images whose box is right at each threshold (Fig. 5 a of the paper)"
        figures.append(_save(folder, one, "box_accuracy", caption, Plot(BOX_ACCURACY, lines)))
    if precise:
        caption = "Precision and recall of the pixels" + _of_examples(precise, "precision_recall") + " (Fig. 5 b)"
        lines = [_precision_recall(record) for record in precise]
        plot = Plot(Axes("recall", "precision"), lines)
        figures.append(_save(folder, one, "precision_recall", caption, plot))
    caption = "Distribution of the maps' values" + _of_examples(records, "histogram") + " (Fig. 6)"
    main = [activations(record.row, [record.histogram]) for row in main_rows(one.rows()) for record in one.records(row)]
    figures.append(_save(folder, one, "activations", caption, Plot(ACTIVATIONS, main)))
    for stage, plot in _convergence(one).items():
        caption = f"Validation figures before the first epoch of stage {stage} and after every one; dot: the model kept"
        figures.append(_save(folder, one, f"convergence-{file_name(stage)}", f"{caption} (Fig. A.5)", plot))
    return figures


def sweep_figure(folder: pathlib.Path, number: int, sweep: Sequence[Configuration]) -> PageFigure:
    """Localization against the background fraction n- over configurations that differ in it (Fig. 8)."""
    rows = [(setting(one.config, BACKGROUND_FRACTION), row) for one in sweep for row in table_rows(one)]
    metric = localizing({name for _, row in rows for name in row.figures})
    lines = []
    for name in _main_first([row.name for _, row in rows]):
        points = [(x, row.figures[metric]) for x, row in rows if row.name == name and metric in row.figures]
        spread = [figure.deviation or 0 for _, figure in points]
        lines.append(Line(name, [x for x, _ in points], [figure.mean for _, figure in points], spread))
    caption = f"{metric} against the background fraction n-, mean and deviation over seeds (Fig. 8)"
    plot = Plot(Axes("background fraction n-", f"{metric}, percent"), lines)
    return _save_as(folder, f"background_fraction-{number}", caption, plot)


def simulation_figure(
    folder: pathlib.Path, number: int, examples: Sequence[StoredExample], dataset: str
) -> PageFigure | None:
    """PxAP of perfect maps against the factor by which they are reduced; None where no example has ground truth."""
    chosen = [example for example in examples if example.mask_file is not None or example.boxes is not None]
    truths = [_true_mask(example) for example in spread(chosen, _SIMULATED)]
    if not any(truth.mask is not None and truth.mask.any() for truth in truths):
        return None
    boxes = any(example.mask_file is None for example in chosen)
    caption = f"PxAP of perfect maps of {len(truths)} examples of {dataset}, reduced by a factor and enlarged again"
    caption += "; filled boxes stand for masks, which the data has not" if boxes else ""
    line = Line("perfect map", FACTORS, pxap_by_factor(truths))
    plot = Plot(Axes("down-scaling factor", "PxAP, percent", x_powers=2), [line])
    return _save_as(folder, f"scale_simulation-{number}", caption, plot)


def save_grids(folder: pathlib.Path, one: Configuration, examples: Sequence[StoredExample]) -> list[pathlib.Path]:
    """Grids of examples that the last of the main methods finds, and of those that it misses (Fig. 3, 4 and 7).

    Args:
      folder: for `<number>-found.png` and `<number>-missed.png`; one without rows is not written.
      one: the configuration; the examples are those of its first run.
      examples: with readable pixels.
    """
    paths = []
    for name, rows in grids(main_rows(one.rows()), examples, _GRID_ROWS).items():
        paths.append(folder / f"{one.number}-{name}.png")
        save_grid(paths[-1], rows)
    return paths


def grids(rows: Sequence[str], examples: Sequence[StoredExample], count: int) -> dict[str, list[GridRow]]:
    """Rows of a grid for each of "found" and "missed": what the last of some methods finds, and what it misses.

    Args:
      rows: the methods, a panel each.
      examples: with readable pixels; those that some method has not are left out.
      count: at most so many of each, evenly spread; one without any is absent.
    """
    complete = [_of_rows(example, rows) for example in examples]
    complete = [example for example in complete if len(example.findings) == len(rows)]
    found = {}
    for name, wanted in (("found", True), ("missed", False)):
        ious = [(example, example.findings[-1].iou) for example in complete]
        chosen = [example for example, iou in ious if iou is not None and (iou >= _FOUND) is wanted]
        if chosen:
            found[name] = list(map(_grid_row, spread(chosen, count)))
    return found


def _main_first(rows: Sequence[str]) -> list[str]:
    """Each row once, the main ones first: so they have the same colours in every figure."""
    return list(dict.fromkeys([*main_rows(rows), *rows]))


def _convergence(one: Configuration) -> dict[str, Plot]:
    """A plot for each stage: the metric that chose its model, and classification accuracy, by epoch."""
    known = {name for run in one.runs for history in run.history.values() for epoch in history for name in epoch}
    by_data = next((name for name in selecting() if name in known), "")
    selection = setting(one.config, "validation.selection") or by_data
    plots = {}
    for stage in dict.fromkeys(name for run in one.runs for name in run.history):
        lines = []
        for metric in dict.fromkeys((selection, _CLASSIFICATION)):
            for run in one.runs:
                values = [epoch.get(metric, np.nan) for epoch in run.history.get(stage, [])]
                if np.isfinite(values).any():
                    dot = int(np.nanargmax(values)) if metric == selection else None
                    lines.append(Line(metric, range(len(values)), values, dot=dot))
        if lines:
            plots[stage] = Plot(Axes("epoch", "percent"), lines)
    return plots


def _precision_recall(record: StoredEvaluation) -> Line:
    curve = record.precision_recall
    assert curve is not None
    taken = (curve.precision > 0) | (curve.recall > 0)
    return Line(record.row, curve.recall[taken], curve.precision[taken])


def activations(name: str, histograms: Sequence[Histogram], dashed: bool = False) -> Line:
    """The line of a distribution: the mean of some histograms' shares, with gaps where there are no pixels."""
    counts = [histogram.counts.astype(np.float64) for histogram in histograms]
    share = np.mean([100 * one / max(one.sum(), np.finfo(float).tiny) for one in counts], axis=0)
    return Line(name, (np.arange(BINS) + 0.5) / BINS, np.where(share > 0, share, np.nan), dashed=dashed)


def _of_examples(records: Sequence[StoredEvaluation], what: str) -> str:
    """A remark where a curve is not that of the whole split."""
    return ", of the kept examples only" if any(getattr(record, what).partial for record in records) else ""


def _true_mask(example: StoredExample) -> Annotation:
    """The ground truth with a mask; where there is none, its boxes are filled."""
    pixels = read_pixels(example)
    truth = pixels.truth(example)
    if truth.mask is not None:
        return truth
    mask = np.zeros(pixels.image.shape[:2], bool)
    for x0, y0, x1, y1 in () if truth.boxes is None else truth.boxes.tolist():
        mask[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1] = True
    return Annotation(truth.image_id, truth.label, truth.boxes, mask)


def _of_rows(example: StoredExample, rows: Sequence[str]) -> StoredExample:
    """The example with the findings of some methods only."""
    return dataclasses.replace(example, findings=tuple(f for f in example.findings if f.row in rows))


def _grid_row(example: StoredExample) -> GridRow:
    pixels = read_pixels(example)
    truth = pixels.truth(example)
    panels = [
        Panel(finding.row, levels / 255, localized(levels, truth, finding.threshold))
        for finding, levels in zip(example.findings, pixels.levels, strict=True)
    ]
    return GridRow(pixels.image, truth, example.class_name, panels)


def _save(folder: pathlib.Path, one: Configuration, name: str, caption: str, plot: Plot) -> PageFigure:
    return _save_as(folder, f"{one.number}-{name}", caption, plot)


def _save_as(folder: pathlib.Path, name: str, caption: str, plot: Plot) -> PageFigure:
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    save_plot(paths, plot)
    return PageFigure(caption, paths[1])
