"""Tables on single runs: what each found, how long it took, and which program on which machine made it.

In: `Published`. Out: tables of the report.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from fcam_jax.configuration.flat import setting
from fcam_jax.data.settings import tested_side
from fcam_jax.runs.report.aggregate import settings_text
from fcam_jax.runs.report.runs import StoredEvaluation, StoredRun
from fcam_jax.runs.report.tables import Cell, Table, figure_cell
from tools.publication.data import CURVE, Published, name_of

_NOTHING = Cell("-")
_UNKNOWN = "not recorded"


def runs(data: Published) -> Table:
    """The model of the last stage of every run: its checkpoint, and MaxBoxAcc on validation and on test."""
    rows = []
    for run in data.runs:
        facts = data.facts[name_of(run)]
        differs = {key: value for key, value in facts.differs.items() if key != "seed"}
        stages = [row for row in facts.checkpoints if _record(run, row) is not None]
        row = stages[-1] if stages else run.records[-1].row
        record, checkpoint = _record(run, row), facts.checkpoints.get(row, {})
        assert record is not None
        validated = checkpoint.get("val", {})
        low, high = record.intervals.get(CURVE, (None, None))
        rows.append(
            (
                Cell(name_of(run)),
                Cell(settings_text(differs) or "-"),
                Cell(str(run.seed)),
                Cell(row),
                _whole(checkpoint.get("step")),
                figure_cell(validated.get(CURVE)),
                figure_cell(record.figures.get(CURVE)),
                _NOTHING if low is None else Cell(f"{low:.1f} to {high:.1f}", low),
                figure_cell(record.figures.get("threshold_at_val"), digits=3),
                figure_cell(record.figures.get("BoxAcc_at_val")),
            )
        )
    names = ("run", f"differs from {name_of(data.runs[0])} in", "seed", "map")
    figures = ("step", f"{CURVE} on val", CURVE, "95 % interval", "threshold of val", "BoxAcc at it")
    caption = (
        "Every run: the step of its model, which validation chose, and box accuracy, percent. The last two columns "
        "take the threshold from validation instead of the images that are evaluated"
    )
    return Table(caption, names + figures, tuple(rows), len(names))


def time(data: Published) -> Table:
    """Seconds of every run's training steps by stage, and of its evaluation."""
    known = [one["stage"] for facts in data.facts.values() for one in facts.checkpoints.values()]
    stages = list(dict.fromkeys([*known, "evaluation"]))
    machines = dict.fromkeys(_machine(facts.machine) for facts in data.facts.values())
    rows = []
    for run in data.runs:
        facts = data.facts[name_of(run)]
        taken = {one["stage"]: one["taken_from"] for one in facts.checkpoints.values() if "taken_from" in one}
        cells = [Cell(f"of {taken[stage]}") if stage in taken else _whole(facts.seconds.get(stage)) for stage in stages]
        total = sum(facts.seconds.values())
        where = [Cell(_machine(facts.machine))] if len(machines) > 1 else []
        rows.append((Cell(name_of(run)), *where, *cells, _whole(total or None)))
    sums = [sum(facts.seconds.get(stage, 0) for facts in data.facts.values()) for stage in stages]
    where = [_NOTHING] if len(machines) > 1 else []
    rows.append((Cell("all"), *where, *(_whole(one or None) for one in (*sums, sum(sums)))))
    caption = (
        "Seconds of the training steps of each stage, without validation and checkpoints, and of the evaluation of all "
        "maps of a run"
    )
    if not where:
        caption += f"; machine: {next(iter(machines))}"
    names = ("run", "machine") if where else ("run",)
    return Table(caption, (*names, *stages, "sum"), tuple(rows), len(names))


def provenance(data: Published) -> Table:
    """Which programs, machines, images and configuration the data come from."""
    first = data.runs[0]
    lines: list[tuple[str, str]] = []
    for name, words in (("program", _program), ("machine", _machine)):
        by_text: dict[str, list[str]] = {}
        for run, facts in data.facts.items():
            by_text.setdefault(words(getattr(facts, name)), []).append(run)
        lines += [(name, f"{text}: {_runs(found, data)}") for text, found in by_text.items()]
    evaluated = dict.fromkeys((record.split, record.images) for run in data.runs for record in run.records)
    lines += [("images", f"{images:,} of the split {split}") for split, images in evaluated]
    folder = pathlib.PurePath(str(setting(first.config, "data.root"))).name
    dataset = setting(first.config, "data.name") or folder or setting(first.config, "data.source")
    lines += [
        ("data", f"{dataset}, {_pixels(first.config['data'])}"),
        ("encoder", str(setting(first.config, "model.encoder"))),
        ("configuration", f"{data.facts[name_of(first)].config_hash} of {name_of(first)}"),
    ]
    if data.examples_of is not None:
        lines.append(("examples", f"of {data.examples_of}"))
    rows = tuple((Cell(name), Cell(text)) for name, text in lines)
    return Table("Where the figures come from", ("what", "which"), rows, 2)


def _record(run: StoredRun, row: str) -> StoredEvaluation | None:
    return next((record for record in run.records if record.row == row), None)


def _whole(value: float | int | None) -> Cell:
    return _NOTHING if value is None else Cell(f"{value:,.0f}", value)


def _runs(names: list[str], data: Published) -> str:
    return "all runs" if len(names) == len(data.runs) else ", ".join(names)


def _pixels(data: Mapping[str, Any]) -> str:
    size, tested = data["size"], tested_side(data)
    return f"{size} pixels" if tested == size else f"crops of {size} pixels, tested at {tested}"


def _program(facts: Mapping[str, Any]) -> str:
    if not facts:
        return _UNKNOWN
    commit = facts.get("commit")
    changed = ", with changes" if facts.get("modified") else ""
    return f"fcam_jax {facts.get('version')}, " + (f"commit {commit[:12]}{changed}" if commit else "no commit known")


def _machine(facts: Mapping[str, Any]) -> str:
    if not facts:
        return _UNKNOWN
    cores = facts.get("cores")
    host = f"{cores} {'core' if cores == 1 else 'cores'} of {facts.get('cpu')}"
    devices = ", ".join(f"{count} {kind}" for kind, count in (facts.get("devices") or {}).items())
    where = host if facts.get("platform") == "cpu" else f"{devices}, {host}"
    return f"{where}, jax {facts.get('jax')}, Python {facts.get('python')}"
