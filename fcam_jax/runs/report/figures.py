"""The paper's figures for one's own runs: curves over threshold, epoch and background fraction, grids of examples.

In: configurations with their runs. Out: PNG and SVG files in a folder, and what the page says of them.
"""

import base64
import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from jaxtyping import Float, Real

from fcam_jax.configuration.flat import setting
from fcam_jax.evaluation.activations import BINS
from fcam_jax.evaluation.metric import Scored
from fcam_jax.evaluation.metrics import localizing, selecting, tie_breaker
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.runs.report.aggregate import BACKGROUND_FRACTION, Configuration, table_rows
from fcam_jax.runs.report.curves import BOX_ACCURACY, Axes, Line, save_plot
from fcam_jax.runs.report.paper import main_rows
from fcam_jax.runs.report.pictures import GridRow, save_grid, spread
from fcam_jax.runs.report.runs import StoredExample, read_pixels
from fcam_jax.runtime.text import file_name
from fcam_jax.types import Annotation

ACTIVATIONS = Axes("value of the map", "pixels in a bin of 1/256, percent", y_powers=10)

FACTORS = (1, 2, 4, 8, 16, 32)

_KINDS = ("png", "svg", "pdf")
_GRID_ROWS = 12
_SIMULATED = 500
# The protocol's has 1,000; a few of them tell the areas apart as well.
_THRESHOLD_STEP = 0.01
_FOUND = 0.5  # IoU


PageFigure = dict[str, str]  # "caption", and "svg", the plot in letters


def configuration_figures(folder: pathlib.Path, one: Configuration) -> list[PageFigure]:
    """The plots of one configuration; those whose data it has not are left out. Every seed has its own line."""
    records = [record for row in _main_first(one.rows()) for record in one.records(row)]
    boxes = [Line(r.row, r.thresholds, r.curves[by]) for r in records if (by := localizing(r.curves))]
    pixels = []
    for record in records:
        if record.precision_recall is not None:
            precision, recall = record.precision_recall
            taken = (precision > 0) | (recall > 0)
            pixels.append(Line(record.row, recall[taken], precision[taken]))
    main = [record for row in main_rows(one.rows()) for record in one.records(row)]
    values = [activations(record.row, [record.histogram]) for record in main]
    right = "Share of images whose box is right at each threshold (Fig. 5 a of the paper)"
    plots = {
        "box_accuracy": (right, BOX_ACCURACY, boxes),
        "precision_recall": ("Precision and recall of the pixels (Fig. 5 b)", Axes("recall", "precision"), pixels),
        "activations": ("Distribution of the maps' values (Fig. 6)", ACTIVATIONS, values),
    }
    for stage in dict.fromkeys(name for run in one.runs for name in run.history):
        told = f"Validation figures before the first epoch of stage {stage} and after every one; dot: the model kept"
        lines = _epochs(one, stage)
        plots[f"convergence-{file_name(stage)}"] = f"{told} (Fig. A.5)", Axes("epoch", "percent", x_counts=True), lines
    return [
        _save(folder / f"{one.number}-{name}", caption, axes, lines)
        for name, (caption, axes, lines) in plots.items()
        if lines
    ]


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
    axes = Axes("background fraction n-", f"{metric}, percent")
    return _save(folder / f"background_fraction-{number}", caption, axes, lines)


def simulation_figure(
    folder: pathlib.Path, number: int, examples: Sequence[StoredExample], dataset: str
) -> PageFigure | None:
    """PxAP of perfect maps against the factor by which they are reduced; None where no example has ground truth."""
    chosen = [example for example in examples if example.mask_file is not None or example.boxes is not None]
    truths = [_true_mask(example) for example in spread(chosen, _SIMULATED)]
    if not any(truth.mask is not None and truth.mask.any() for truth in truths):
        return None
    caption = f"PxAP of perfect maps of {len(truths)} examples of {dataset}, reduced by a factor and enlarged again"
    if any(example.mask_file is None for example in chosen):
        caption += "; filled boxes stand for masks, which the data has not"
    line = Line("perfect map", FACTORS, pxap_by_factor(truths))
    axes = Axes("down-scaling factor", "PxAP, percent", x_powers=2)
    return _save(folder / f"scale_simulation-{number}", caption, axes, [line])


def pxap_by_factor(truths: Iterable[Annotation], factors: Sequence[int] = FACTORS) -> list[float]:
    """PxAP in percent of perfect maps whose side is reduced by factors; all have masks, some one with foreground."""
    totals = [PixelPrecision(_THRESHOLD_STEP) for _ in factors]
    for truth in truths:
        assert truth.mask is not None
        perfect = truth.mask.astype(np.float64)
        maps = (reduced_and_enlarged(perfect, factor) for factor in factors)
        totals = [total.update(score_map, truth) for total, score_map in zip(totals, maps, strict=True)]
    return [total.compute()["PxAP"] for total in totals]


def reduced_and_enlarged(score_map: Float[np.ndarray, "h w"], factor: int) -> Float[np.ndarray, "h w"]:
    """The map as means of cells of `factor` by `factor` pixels, enlarged bilinearly."""
    height, width = score_map.shape
    cells = max(1, round(width / factor)), max(1, round(height / factor))
    low = cv2.resize(score_map, cells, interpolation=cv2.INTER_AREA)
    return np.clip(cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)


def save_grids(folder: pathlib.Path, one: Configuration, examples: Sequence[StoredExample]) -> None:
    """Save `<number>-found.png` and `-missed.png`, see `grids`, of the readable examples of the first run."""
    for name, rows in grids(main_rows(one.rows()), examples, _GRID_ROWS).items():
        save_grid(folder / f"{one.number}-{name}.png", rows)


def grids(rows: Sequence[str], examples: Sequence[StoredExample], count: int) -> dict[str, list[GridRow]]:
    """Rows of a grid for each of "found" and "missed": what the last of some methods finds, and misses (Fig. 3, 4, 7).

    Of the examples, whose pixels are readable, those that some method has not are left out. There are at most `count`
    of each, evenly spread; one without any is absent.
    """
    own = [dataclasses.replace(e, findings=tuple(f for f in e.findings if f.row in rows)) for e in examples]
    judged = [
        (example, example.findings[-1].iou >= _FOUND)
        for example in own
        if len(example.findings) == len(rows) and example.findings[-1].iou is not None
    ]
    wanted = {"found": True, "missed": False}
    chosen = {name: [one for one, is_found in judged if is_found is which] for name, which in wanted.items()}
    return {name: list(map(_grid_row, spread(some, count))) for name, some in chosen.items() if some}


def activations(name: str, histograms: Sequence[Real[np.ndarray, " n"]], dashed: bool = False) -> Line:
    """The line of a distribution: the mean of some histograms' shares, with gaps where there are no pixels."""
    share = np.mean([100 * one / max(one.sum(), np.finfo(float).tiny) for one in histograms], axis=0)
    return Line(name, (np.arange(BINS) + 0.5) / BINS, np.where(share > 0, share, np.nan), dashed=dashed)


def _main_first(rows: Sequence[str]) -> list[str]:
    """Each row once, the main ones first: so they have the same colours in every figure."""
    return list(dict.fromkeys([*main_rows(rows), *rows]))


def _epochs(one: Configuration, stage: str) -> list[Line]:
    """The metric that chose a stage's model, and the one that broke its ties, by epoch."""
    names = {
        name for run in one.runs for history in run.history.values() for epoch in history.values() for name in epoch
    }
    selection = setting(one.config, "validation.selection") or next((n for n in selecting() if n in names), "")
    ties, lines = tie_breaker(selection), []
    for metric in dict.fromkeys((selection, ties)):
        for run in one.runs:
            history = run.history.get(stage, {})
            values = [epoch.get(metric, np.nan) for epoch in history.values()]
            if np.isfinite(values).any():
                marked = metric == selection and run.kept.get(stage) in history
                dot = [*history].index(run.kept[stage]) if marked else None
                lines.append(Line(metric, range(len(values)), values, dot=dot))
    return lines


def _true_mask(example: StoredExample) -> Annotation:
    """The ground truth with a mask; where there is none, its boxes are filled."""
    pixels = read_pixels(example)
    truth = pixels.truth(example)
    if truth.mask is not None:
        return truth
    return dataclasses.replace(truth, mask=Scored(pixels.image[..., 0], truth).object)


def _grid_row(example: StoredExample) -> GridRow:
    pixels = read_pixels(example)
    maps = zip(example.findings, pixels.levels, strict=True)
    panels = {finding.row: (levels, finding.threshold) for finding, levels in maps}
    return GridRow(pixels.image, pixels.truth(example), example.class_name, panels)


def _save(path: pathlib.Path, caption: str, axes: Axes, lines: Sequence[Line]) -> PageFigure:
    save_plot([path.with_name(f"{path.name}.{kind}") for kind in _KINDS], axes, lines)
    return {"caption": caption, "svg": base64.b64encode(path.with_name(f"{path.name}.svg").read_bytes()).decode()}
