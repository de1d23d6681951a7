"""Tables of results: of a run for people, and those of a report: ours, the paper's with ours beside, and details.

A cell of a report's table is a text with the number that it is sorted by.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from fcam_jax.configuration.flat import setting
from fcam_jax.evaluation.metrics import columns as columns_of
from fcam_jax.evaluation.metrics import mean_of
from fcam_jax.runs.class_names import class_title
from fcam_jax.runs.report.aggregate import Configuration, Figure, Row, settings_text
from fcam_jax.runs.report.paper import entries, main_rows, stage1_title
from fcam_jax.runs.report.runs import Figures, StoredEvaluation, StoredRun
from fcam_jax.runtime.text import aligned, printable


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell."""

    text: str  # what is shown
    value: float | int | None = None  # what it is sorted by, where that is a number


@dataclasses.dataclass(frozen=True)
class Table:
    """A table."""

    caption: str  # what it shows
    columns: tuple[str, ...]  # headings
    rows: tuple[tuple[Cell, ...], ...]  # cells, as many as columns in each row
    names: int  # how many of the first columns say what a row is; figures follow


_NOTHING = Cell("-")


def results_table(
    methods: Mapping[str, Mapping[str, float]], first: str | None = None, last: str | None = None, split: str = "test"
) -> str:
    """One row a method with its figures in percent; the last row is what the method `last` gains over the `first`.

    By default these are the last and first of all. Columns that no method has are left out; so is the last row where
    both are the same.
    """
    columns = columns_of(name for metrics in methods.values() for name in metrics)
    rows = [[name, *(figure_cell(of.get(column)).text for column in columns)] for name, of in methods.items()]
    names = list(methods)
    first, last = first or names[0], last or names[-1]
    if first != last:
        old, new = methods[first], methods[last]
        gains = [new[column] - old[column] if column in old and column in new else None for column in columns]
        rows.append(["gain", *(figure_cell(gain, "+").text for gain in gains)])
    return aligned([[f"{split}, percent", *columns], *rows])


def results(rows: Sequence[Row]) -> Table:
    """All rows with all figures; where the paper has one, it stands beside ours with the difference."""
    metrics = columns_of(name for row in rows for name in row.figures)
    compared = {m for m in metrics if any(m in row.figures and row.figures[m].published is not None for row in rows)}
    names = _names(rows)
    columns = [*names]
    for metric in metrics:
        columns += [metric, f"{metric}, paper", f"{metric}, difference"] if metric in compared else [metric]
    lines = [(*of, *_figures(row, metrics, compared)) for row, *of in zip(rows, *names.values(), strict=True)]
    caption = (
        "Results, percent, at the thresholds that are best on the evaluated split; mean ± sample standard deviation "
        "(number of seeds)"
    )
    return Table(caption, tuple(columns), tuple(lines), len(names))


def paper_tables(rows: Sequence[Row]) -> list[Table]:
    """Every table of the paper that has a method of ours, for the data sets and encoders that we have; then those of
    what the authors of other methods report.
    """
    tables = dict.fromkeys((entry.table, entry.metric) for entry in entries())
    return [table for number, metric in tables if (table := _paper_table(number, metric, rows)) is not None]


def details(found: Sequence[Configuration]) -> list[Table]:
    """Every figure of every evaluation; by the object's size; by class, of the methods that the paper compares; what
    trainings started from.
    """
    records = [(one, run, record) for one in found for run in one.runs for record in run.records]
    compared = [of for of in records if of[2].row in main_rows([record.row for record in of[1].records])]

    def by_class(run: StoredRun, record: StoredEvaluation) -> dict[str, Figures]:
        return {class_title(run.class_names, label): figures for label, figures in record.by_class.items()}

    by_part = (
        _by_part(records, "the object's share of the image", lambda run, record: record.by_size),
        _by_part(compared, "class", by_class),
    )
    return [_every_figure(records), *(table for table in (*by_part, _weights(found)) if table.rows)]


def markdown(table: Table) -> str:
    """A table in Markdown, its caption above it."""
    alignment = ["---"] * table.names + ["---:"] * (len(table.columns) - table.names)
    lines = [[_escaped(column) for column in table.columns], alignment]
    lines += [[_escaped(cell.text) for cell in row] for row in table.rows]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{_escaped(table.caption)}\n\n{body}\n"


def figure_cell(figure: Figure | float | None, sign: str = "", digits: int = 1) -> Cell:
    """Mean ± sample standard deviation (number of seeds), or a single number; a dash for none; "+" is for signs."""
    if figure is None:
        return _NOTHING
    one = figure if isinstance(figure, Figure) else Figure((figure,))
    text = f"{one.mean:{sign}z.{digits}f}"
    if one.deviation is not None:
        text += f" ± {one.deviation:.{digits}f} ({len(one.values)})"
    return Cell(text, one.mean)


def _number(one: Configuration) -> Cell:
    return Cell(str(one.number), one.number)


def _names(rows: Sequence[Row]) -> dict[str, list[Cell]]:
    """The columns that say what each row is; settings, split and stage 1 only where they say anything."""
    ones = [row.configuration for row in rows]
    columns = {
        "method": [Cell(row.name) for row in rows],
        "No.": [_number(one) for one in ones],
        "data set": [Cell(one.dataset or str(setting(one.config, "data.source"))) for one in ones],
        "encoder": [Cell(one.encoder) for one in ones],
        "stage 1": [Cell(stage1_title(one.classifier)) for one in ones],
        "CAM": [Cell(one.cam) for one in ones],
        "settings": [Cell(settings_text(one.settings) or _NOTHING.text) for one in ones],
        "split": [Cell(row.split) for row in rows],
        "images": [Cell(str(row.images), row.images) for row in rows],
        "seeds": [Cell(", ".join(map(str, row.seeds))) for row in rows],
    }
    plain = {"settings": _NOTHING.text, "split": "test", "stage 1": stage1_title(None)}
    return {n: cells for n, cells in columns.items() if n not in plain or any(cell.text != plain[n] for cell in cells)}


def _figures(row: Row, metrics: Sequence[str], compared: set[str]) -> Iterator[Cell]:
    for metric in metrics:
        figure = row.figures.get(metric)
        yield figure_cell(figure)
        if metric in compared:
            yield figure_cell(figure and figure.published)
            yield figure_cell(figure and figure.difference, "+")


def _paper_table(number: str, metric: str, rows: Sequence[Row]) -> Table | None:
    """A table of the paper for one metric, with ours beside; None where nothing of ours is in it."""
    matched = [
        (row.configuration, row.method, figure)
        for row in rows
        if (figure := row.figures.get(metric)) is not None and figure.published is not None
    ]
    shown = [entry for entry in entries() if (entry.table, entry.metric) == (number, metric)]
    lines = []
    for place in dict.fromkeys((one.dataset, one.encoder) for one, *_ in matched):
        for entry in (entry for entry in shown if (entry.dataset, entry.encoder) == place):
            names = Cell(entry.title), Cell(entry.dataset), Cell(entry.encoder)
            ours = [
                (
                    _number(one),
                    figure_cell(entry.value),
                    figure_cell(figure),
                    figure_cell(figure.mean - entry.value, "+"),
                )
                for one, method, figure in matched
                if (one.dataset, one.encoder, method) == (*place, entry.method)
            ]
            lines += [(*names, *of) for of in ours or [(_NOTHING, figure_cell(entry.value), _NOTHING, _NOTHING)]]
    if not any(line[-1].value is not None for line in lines):
        return None
    columns = ("method", "data set", "encoder", "No.", "paper", "ours", "difference")
    caption = f"Table {number} of the paper" if number else "Reported by the methods' own authors"
    return Table(f"{caption}, {metric}, percent", columns, tuple(lines), 4)


Records = Sequence[tuple[Configuration, StoredRun, StoredEvaluation]]


def _of(one: Configuration, run: StoredRun, record: StoredEvaluation) -> tuple[Cell, ...]:
    return Cell(record.row), _number(one), Cell(str(run.seed)), Cell(record.split)


def _every_figure(records: Records) -> Table:
    rows = [
        (*_of(one, run, record), Cell(name), Cell(_threshold(name, record)), *map(figure_cell, (value, *ends)))
        for one, run, record in records
        for name, value in record.figures.items()
        if "threshold" not in name
        for ends in [record.intervals.get(name, (None, None))]
    ]
    columns = ("method", "No.", "seed", "split", "figure", "at threshold", "percent", "95 % from", "to")
    return Table("Every figure of every run, with 95 % bootstrap intervals over its images", columns, tuple(rows), 6)


def _weights(found: Sequence[Configuration]) -> Table:
    rows = [
        (Cell(row), _number(one), Cell(str(run.seed)), Cell(called), Cell(source or _NOTHING.text), Cell(digest[:16]))
        for one in found
        for run in one.runs
        for row, files in run.started.items()
        for called, source, digest in files
    ]
    columns = ("method", "No.", "seed", "weights", "from", "SHA-256")
    return Table("What trainings started from", columns, tuple(rows), len(columns))


def _threshold(name: str, record: StoredEvaluation) -> str:
    """What a figure's threshold is, and where it was chosen; "none" where it needs none."""
    if name.endswith("_at_val"):
        return f"{record.figures['threshold_at_val']:g}, best on val"
    if (curve := record.curves.get(name)) is not None:
        return "any" if np.ptp(curve) == 0 else f"{record.thresholds[curve.argmax()]:g}, best on {record.split}"
    return f"{len(parts)}, each best on {record.split}" if (parts := mean_of(name)) else "none"


def _by_part(
    records: Records, title: str, parts: Callable[[StoredRun, StoredEvaluation], Mapping[str, Figures]]
) -> Table:
    """Figures of parts of the split at the whole split's best thresholds."""
    figures = columns_of(name for _, run, record in records for part in parts(run, record).values() for name in part)
    rows = [
        (
            *_of(one, run, record),
            Cell(part, order),
            figure_cell(values["images"], digits=0),
            *(figure_cell(values.get(name)) for name in figures),
        )
        for one, run, record in records
        for order, (part, values) in enumerate(parts(run, record).items())
    ]
    columns = ("method", "No.", "seed", "split", title, "images", *figures)
    return Table(f"By {title}, percent, at the best thresholds of the whole split", columns, tuple(rows), 5)


def _escaped(text: str) -> str:
    """The text in a cell of Markdown: nothing in it is markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in printable(text))
