"""Tables of a report, independent of their form: our results, and the paper's tables with ours beside. Out: Markdown.

A cell is a text with the number that it is sorted by.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from fcam_jax.configuration.flat import setting
from fcam_jax.evaluation.metrics import columns as columns_of
from fcam_jax.runs.report.aggregate import Figure, Row, settings_text
from fcam_jax.runs.report.paper import entries, stage1_title
from fcam_jax.runtime.text import printable

_NOTHING = "-"


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


def results(rows: Sequence[Row]) -> Table:
    """All rows with all figures; where the paper has one, it stands beside ours with the difference."""
    metrics = columns_of(name for row in rows for name in row.figures)
    compared = {m for m in metrics if any(m in row.figures and row.figures[m].published is not None for row in rows)}
    names = _names(rows)
    columns = [*names]
    for metric in metrics:
        columns += [metric, f"{metric}, paper", f"{metric}, difference"] if metric in compared else [metric]
    lines = [
        (*(column[i] for column in names.values()), *_figures(row, metrics, compared)) for i, row in enumerate(rows)
    ]
    caption = (
        "Results, percent, at the thresholds that are best on the evaluated split; mean ± sample standard deviation "
        "(number of seeds)"
    )
    return Table(caption, tuple(columns), tuple(lines), len(names))


def paper_tables(rows: Sequence[Row]) -> list[Table]:
    """Every table of the paper that has a method of ours, for the data sets and encoders that we have."""
    numbers = list(dict.fromkeys(entry.table for entry in entries()))
    tables = [
        _paper_table(number, metric, rows)
        for number in numbers
        for metric in dict.fromkeys(entry.metric for entry in entries() if entry.table == number)
    ]
    return [table for table in tables if table is not None]


def markdown(table: Table) -> str:
    """A table in Markdown, its caption above it."""
    alignment = ["---"] * table.names + ["---:"] * (len(table.columns) - table.names)
    lines = [[_escaped(column) for column in table.columns], alignment]
    lines += [[_escaped(cell.text) for cell in row] for row in table.rows]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{_escaped(table.caption)}\n\n{body}\n"


def figure_cell(figure: Figure | None, sign: str = "", digits: int = 1) -> Cell:
    """Mean ± sample standard deviation (number of seeds), or a single figure; a dash for none.

    Args:
      figure: of ours.
      sign: "+" to show that of positive ones, too.
      digits: after the point.
    """
    if figure is None:
        return Cell(_NOTHING)
    text = f"{figure.mean:{sign}z.{digits}f}"
    if figure.deviation is not None:
        text += f" ± {figure.deviation:.{digits}f} ({len(figure.values)})"
    return Cell(text, figure.mean)


def number_cell(value: float | None, sign: str = "", digits: int = 1) -> Cell:
    """A number, or a dash for none; `sign` and `digits` as for `figure_cell`."""
    return Cell(_NOTHING) if value is None else Cell(f"{value:{sign}z.{digits}f}", value)


def _names(rows: Sequence[Row]) -> dict[str, list[Cell]]:
    """The columns that say what each row is; settings, split and stage 1 only where they say anything."""
    ones = [row.configuration for row in rows]
    columns = {
        "method": [Cell(row.name) for row in rows],
        "No.": [Cell(str(one.number), one.number) for one in ones],
        "data set": [Cell(one.dataset or str(setting(one.config, "data.source"))) for one in ones],
        "encoder": [Cell(one.encoder) for one in ones],
        "stage 1": [Cell(stage1_title(one.classifier)) for one in ones],
        "CAM": [Cell(one.cam) for one in ones],
        "settings": [Cell(settings_text(one.settings) or _NOTHING) for one in ones],
        "split": [Cell(row.split) for row in rows],
        "images": [Cell(str(row.images), row.images) for row in rows],
        "seeds": [Cell(", ".join(map(str, row.seeds))) for row in rows],
    }
    plain = {"settings": _NOTHING, "split": "test", "stage 1": stage1_title(None)}
    return {
        name: cells
        for name, cells in columns.items()
        if name not in plain or any(cell.text != plain[name] for cell in cells)
    }


def _figures(row: Row, metrics: Sequence[str], compared: set[str]) -> Iterator[Cell]:
    for metric in metrics:
        figure = row.figures.get(metric)
        yield figure_cell(figure)
        if metric in compared:
            yield number_cell(figure.published if figure else None)
            yield number_cell(figure.difference if figure else None, "+")


def _paper_table(number: str, metric: str, rows: Sequence[Row]) -> Table | None:
    """A table of the paper for one metric, with ours beside; None where nothing of ours is in it."""
    matched = [row for row in rows if metric in row.figures and row.figures[metric].published is not None]
    places = dict.fromkeys((row.configuration.dataset, row.configuration.encoder) for row in matched)
    lines = []
    for dataset, encoder in places:
        for entry in entries():
            if (entry.table, entry.metric, entry.dataset, entry.encoder) != (number, metric, dataset, encoder):
                continue
            names = Cell(entry.title), Cell(entry.dataset), Cell(encoder)
            ours = [
                row
                for row in matched
                if (row.configuration.dataset, row.configuration.encoder, row.method)
                == (dataset, encoder, entry.method)
            ]
            for row in ours:
                own, figure = row.configuration.number, row.figures[metric]
                difference = number_cell(figure.difference, "+")
                lines.append((*names, Cell(str(own), own), number_cell(entry.value), figure_cell(figure), difference))
            if not ours:
                lines.append((*names, Cell(_NOTHING), number_cell(entry.value), Cell(_NOTHING), Cell(_NOTHING)))
    if not any(line[-1].value is not None for line in lines):
        return None
    columns = ("method", "data set", "encoder", "No.", "paper", "ours", "difference")
    return Table(f"Table {number} of the paper, {metric}, percent", columns, tuple(lines), 4)


def _escaped(text: str) -> str:
    """The text in a cell of Markdown: nothing in it is markup."""
    text = printable(text)
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)
