"""Which rows of published runs belong together, by what their configurations say: F-CAM and its CAM, a loss's terms.

In: runs. Out: pairs and families of the report's rows, in the paper's order.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from fcam_jax.runs.report.aggregate import Configuration, Figure, Row, configurations, settings_text, table_rows
from fcam_jax.runs.report.paper import CENTER_ROW, DECISION_ROW, FCAM_ROW, PaperMethod, entries, stage1_title
from fcam_jax.runs.report.runs import StoredEvaluation, StoredRun

# What the paper calls the losses: F-CAM with the terms of Table 3 up to one, and what that one adds.
WHOLE = "F-CAM"
TERMS = {"SR": "+ seeds", "SR+CRF": "+ CRF", WHOLE: "+ sizes"}


@dataclasses.dataclass(frozen=True)
class Pair:
    """A CAM and F-CAM that was trained from it."""

    title: str  # what people call the CAM, with the settings that tell it from other pairs of it
    method: PaperMethod  # the CAM by the paper's name
    cam: Row | None  # its row; None where its runs have not evaluated it
    fcam: Row | None  # that of F-CAM on it, of the same configuration; None where there is none
    decided: Row | None = None  # that of F-CAM's own decision, which takes no threshold; None where there is none

    def rows(self) -> list[tuple[str, Row]]:
        """The rows that there are, with their titles."""
        both = (self.title, self.cam), (f"F-CAM on {self.title}", self.fcam)
        return [(title, row) for title, row in both if row is not None]


@dataclasses.dataclass(frozen=True)
class Family:
    """F-CAM from one CAM with more and more terms of its loss."""

    title: str  # what people call the CAM
    method: PaperMethod  # the CAM by the paper's name
    cam: tuple[Row, ...]  # rows of the CAM itself, one for each configuration of F-CAM
    # rows of F-CAM by the paper's name of the loss, at most one for each setting of anything else
    terms: dict[str, tuple[Row, ...]]


def pairs(runs: Sequence[StoredRun]) -> list[Pair]:
    """F-CAM with the whole loss and the CAM that it was trained from, for every CAM."""
    whole = [run for run in runs if _terms_of(run) == WHOLE]
    found = [_pair(one) for one in configurations(whole)]
    titles = [pair.title for pair in found]
    named = [
        dataclasses.replace(pair, title=_told_apart(pair)) if titles.count(pair.title) > 1 else pair for pair in found
    ]
    return sorted(named, key=lambda pair: _place(pair.method))


def alone(runs: Sequence[StoredRun]) -> list[Pair]:
    """Rows of runs that end with stage 1, as far as no pair has their CAM, each as a pair without F-CAM."""
    taken = {pair.method for pair in pairs(runs)}
    found: dict[PaperMethod, Row] = {}
    for one in configurations([run for run in runs if not _has(run, FCAM_ROW)]):
        for row in table_rows(one):
            if row.name != CENTER_ROW and row.method not in taken:
                found.setdefault(row.method, row)
    return [Pair(_title(method), method, row, None) for method, row in found.items()]


def center(runs: Sequence[StoredRun]) -> Row | None:
    """The row of the centred map, of the first configuration that has one."""
    rows = (row for one in configurations(runs) for row in table_rows(one) if row.name == CENTER_ROW)
    return next(rows, None)


def families(runs: Sequence[StoredRun]) -> list[Family]:
    """The CAMs from which F-CAM was trained with fewer terms of the loss, too."""
    rows: dict[PaperMethod, dict[str, list[Row]]] = {}
    cams: dict[PaperMethod, list[Row]] = {}
    for one in configurations([run for run in runs if _terms_of(run) in TERMS]):
        pair = _pair(one)
        assert pair.fcam is not None
        rows.setdefault(pair.method, {}).setdefault(pair.fcam.method.plus, []).append(pair.fcam)
        cams.setdefault(pair.method, []).extend([] if pair.cam is None else [pair.cam])
    return [
        Family(
            _title(method),
            method,
            tuple(cams[method]),
            {term: tuple(terms[term]) for term in TERMS if term in terms},
        )
        for method, terms in rows.items()
        if set(terms) != {WHOLE}
    ]


def values(row: Row, metric: str) -> list[tuple[StoredRun, float]]:
    """A figure of every run of a row that has it."""
    return [(run, record.figures[metric]) for run, record in records(row) if metric in record.figures]


def records(row: Row) -> list[tuple[StoredRun, StoredEvaluation]]:
    """The records of a row with their runs."""
    return [
        (run, record)
        for run in row.configuration.runs
        for record in run.records
        if (record.row, record.split) == (row.name, row.split)
    ]


def paired(
    new: Row | None,
    old: Row | None,
    metric: str,
    how: Callable[[float, float], float | None] = lambda new, old: new - old,
) -> Figure | None:
    """What becomes of a figure of one row and that of another in the same run: their difference, or `how`.

    None where no run has both.
    """
    if new is None or old is None:
        return None
    others = {run.folder: value for run, value in values(old, metric)}
    both = [how(value, others[run.folder]) for run, value in values(new, metric) if run.folder in others]
    known = tuple(value for value in both if value is not None)
    return Figure(known) if known else None


def figure(row: Row | None, metric: str) -> Figure | None:
    """A figure of a row, if there is one."""
    return None if row is None else row.figures.get(metric)


def by_seed(rows: Sequence[Row], metric: str) -> dict[Any, float]:
    """A figure by the seed of its run; of several the first."""
    found: dict[Any, float] = {}
    for row in rows:
        for run, value in values(row, metric):
            found.setdefault(run.seed, value)
    return found


def _pair(one: Configuration) -> Pair:
    rows = {row.name: row for row in table_rows(one)}
    fcam = rows[FCAM_ROW]
    method = PaperMethod(fcam.method.name)
    return Pair(_title(method), method, rows.get(stage1_title(one.classifier)), fcam, rows.get(DECISION_ROW))


def _terms_of(run: StoredRun) -> str | None:
    """The paper's name of the loss by which a run has trained F-CAM; None where it has not."""
    (one,) = configurations([run])
    return next((row.method.plus for row in table_rows(one) if row.name == FCAM_ROW), None)


def _has(run: StoredRun, row: str) -> bool:
    return any(record.row == row for record in run.records)


def _title(method: PaperMethod) -> str:
    return method.name.removesuffix("*")


def _told_apart(pair: Pair) -> str:
    assert pair.fcam is not None
    one = pair.fcam.configuration
    return ", ".join(part for part in (pair.title, one.encoder, settings_text(one.settings)) if part)


def _place(method: PaperMethod) -> int:
    """Its place in the paper's tables; what is not in them comes last."""
    names = list(dict.fromkeys(entry.method.name for entry in entries()))
    return names.index(method.name) if method.name in names else len(names)
