"""Tables of a report on single evaluations: every figure with its threshold and interval, and figures of parts.

In: configurations with their runs. Out: `Table`s, which the page keeps folded.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fcam_jax.evaluation.metrics import columns as columns_of
from fcam_jax.runs.class_names import class_title
from fcam_jax.runs.report.aggregate import Configuration
from fcam_jax.runs.report.paper import main_rows
from fcam_jax.runs.report.runs import StoredEvaluation, StoredRun
from fcam_jax.runs.report.tables import Cell, Table

_NOTHING = "-"


def details(found: Sequence[Configuration]) -> list[Table]:
    """Every figure of every evaluation; by the object's size; by class, of the methods that the paper compares."""
    tables = [_every_figure(found)]
    for name, parts, methods in (
        ("the object's share of the image", _sizes, None),
        ("class", _classes, main_rows),
    ):
        table = _by_part(found, name, parts, methods)
        if table is not None:
            tables.append(table)
    return tables


def _evaluations(found: Sequence[Configuration]) -> Iterator[tuple[Configuration, StoredRun, StoredEvaluation]]:
    return ((one, run, record) for one in found for run in one.runs for record in run.records)


def _names(one: Configuration, run: StoredRun, record: StoredEvaluation) -> tuple[Cell, ...]:
    return Cell(record.row), Cell(str(one.number), one.number), Cell(str(run.seed)), Cell(record.split)


def _every_figure(found: Sequence[Configuration]) -> Table:
    rows = []
    for one, run, record in _evaluations(found):
        for name, value in record.figures.items():
            if "threshold" in name:
                continue
            ends = record.intervals.get(name)
            low, high = (Cell(_NOTHING), Cell(_NOTHING)) if ends is None else map(_percent, ends)
            names = (*_names(one, run, record), Cell(name), Cell(_threshold(name, record)))
            rows.append((*names, _percent(value), low, high))
    columns = ("method", "No.", "seed", "split", "figure", "at threshold", "percent", "95 % from", "to")
    return Table("Every figure of every run, with 95 % bootstrap intervals over its images", columns, tuple(rows), 6)


def _threshold(name: str, record: StoredEvaluation) -> str:
    """What a figure's threshold is, and where it was chosen; the name where it needs none."""
    if name.endswith("_at_val"):
        return f"{record.figures['threshold_at_val']:g}, best on val"
    if name in record.curves and np.ptp(record.curves[name]) == 0:
        return "any"
    if name in record.curves:
        return f"{record.thresholds[record.curves[name].argmax()]:g}, best on {record.split}"
    if name == "MaxBoxAccV2":
        return f"three, each best on {record.split}"
    return "none"


def _by_part(
    found: Sequence[Configuration],
    title: str,
    parts: Callable[[StoredRun, StoredEvaluation], dict[str, dict[str, float]]],
    methods: Callable[[Sequence[str]], list[str]] | None,
) -> Table | None:
    """Figures of parts of the split at the whole split's best thresholds; None where no evaluation has parts."""
    shown = [
        (one, run, record)
        for one, run, record in _evaluations(found)
        if methods is None or record.row in methods([other.row for other in run.records])
    ]
    figures = columns_of(name for _, run, record in shown for part in parts(run, record).values() for name in part)
    rows = [
        (
            *_names(one, run, record),
            Cell(part, order),
            Cell(f"{values['images']:g}", values["images"]),
            *(_percent(values[name]) if name in values else Cell(_NOTHING) for name in figures),
        )
        for one, run, record in shown
        for order, (part, values) in enumerate(parts(run, record).items())
    ]
    if not rows:
        return None
    columns = ("method", "No.", "seed", "split", title, "images", *figures)
    return Table(f"By {title}, percent, at the best thresholds of the whole split", columns, tuple(rows), 5)


def _sizes(run: StoredRun, record: StoredEvaluation) -> dict[str, dict[str, float]]:
    return record.by_size


def _classes(run: StoredRun, record: StoredEvaluation) -> dict[str, dict[str, float]]:
    return {class_title(run.class_names, label): figures for label, figures in record.by_class.items()}


def _percent(value: float) -> Cell:
    return Cell(f"{value:.1f}", value)
