"""The report on one run or many: tables, figures, grids of examples, and a page that shows all of them.

In: the folders of runs that were evaluated. Out, in one folder: `index.html`, which needs no other file; `tables.md`;
`figures/` with every plot as PNG, SVG and PDF and the grids as PNG.
"""

import dataclasses
import json
import logging
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.configuration.flat import setting
from fcam_jax.errors import InputError
from fcam_jax.runs.report import tables
from fcam_jax.runs.report.aggregate import Configuration, configurations, sweeps, table_rows
from fcam_jax.runs.report.figures import PageFigure, configuration_figures, save_grids, simulation_figure, sweep_figure
from fcam_jax.runs.report.page import PixelBlocks, run_facts, write_page
from fcam_jax.runs.report.runs import StoredExample, StoredRun, read_examples, read_pixels, read_run, run_folders
from fcam_jax.runtime.progress import counted
from fcam_jax.runtime.text import printable

logger = logging.getLogger(__name__)


def write_report(workdirs: Sequence[pathlib.Path], out: pathlib.Path) -> pathlib.Path:
    """Write the report on runs into a folder, which is made where it does not exist; returns the page.

    What is damaged, an example, a record or a run, is left out and listed; a folder that is no run ends the report. One
    that is named twice counts once.

    Raises:
      InputError: no folder is given, one is no evaluated run, no run can be read, or `out` cannot be written to.
    """
    folders = list(dict.fromkeys(folder.resolve() for folder in workdirs))
    if not folders:
        raise InputError("a report needs the folder of at least one run")
    for folder in folders:
        run_folders(folder)  # a folder that is no run is a mistake, a file that is damaged is not
    runs: list[StoredRun] = []
    left_out: list[str] = []
    for folder in folders:
        try:
            runs.append(read_run(folder))
            left_out += runs[-1].damaged
        except InputError as error:
            left_out.append(str(error))
    if not runs:
        raise InputError(left_out[0])
    try:
        with tempfile.TemporaryFile("w+", encoding="ascii") as file:
            return _write(configurations(runs), out, PixelBlocks(file), left_out)
    except OSError as error:
        raise InputError(f"--out={out} cannot be written to: {error.strerror} ({error.filename})") from error


def _write(found: Sequence[Configuration], out: pathlib.Path, pixels: PixelBlocks, left_out: list[str]) -> pathlib.Path:
    folder, page = out / "figures", out / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    facts, first = [], dict[int, list[StoredExample]]()  # examples of the first run of each configuration
    for one in found:
        for run in one.runs:
            of_run, examples = _examples(run, one, pixels, left_out)
            facts.append(of_run)
            first.setdefault(one.number, examples)
    rows = [row for one in found for row in table_rows(one)]
    shown = [tables.results(rows), *tables.paper_tables(rows), *tables.details(found)]
    text = "\n".join(map(tables.markdown, shown))
    unsound = [line for one in found for run in one.runs for line in _unsound(run)]
    text += "".join(f"\n{printable(line)}\n" for line in unsound)
    if left_out:
        text += "\nLeft out:\n\n" + "".join(f"    {printable(line)}\n" for line in left_out)
    (out / "tables.md").write_text(f"# F-CAM report\n\n{text}", encoding="utf-8")
    for line in left_out:
        logger.warning("left out: %s", line)
    counts = {"run": len(facts), "configuration": len(found), "example": sum(len(one["examples"]) for one in facts)}
    runs, configs, images = (f"{count:,} {what}{'s' * (count != 1)}" for what, count in counts.items())
    summary = {
        "about": f"{runs} of {configs}, {images}",
        "unsound": unsound,
        "tables": list(map(dataclasses.asdict, shown)),
        "figures": [{"title": title, "figures": group} for title, group in _figures(folder, found, first).items()],
        "runs": [one for one in facts if one["examples"]],
        "leftOut": left_out,
    }
    write_page(page, summary, pixels)
    return page


def _unsound(run: StoredRun) -> list[str]:
    """A line on every mark of a run's trainings."""
    where = f"{run.folder.name}: the training of"
    return [
        f"{where} {row} ended with the mark {name!r}: {why}"
        for row, marks in run.marks.items()
        for name, why in marks.items()
    ]


def _examples(
    run: StoredRun, one: Configuration, pixels: PixelBlocks, left_out: list[str]
) -> tuple[dict[str, Any], list[StoredExample]]:
    """The examples of a run whose pixels can be read; they are added to the page's, the others to those left out."""
    rows = list(dict.fromkeys(record.row for record in run.records))
    examples, damaged = read_examples(run.folder, rows, run.class_names)
    left_out += damaged
    kept, sizes = [], []
    for example in counted(iter(examples), f"examples of {run.folder.name}", len(examples), "image"):
        try:
            found = read_pixels(example)
        except InputError as error:
            left_out.append(str(error))
            continue
        pixels.add(found)
        kept.append(example)
        sizes.append(found.image.shape[:2])
    title = f"{one.title} (seed {run.seed}, {run.folder.name})"
    return run_facts(title, rows, run.class_names, kept, sizes), kept


def _figures(
    folder: pathlib.Path, found: Sequence[Configuration], first: Mapping[int, Sequence[StoredExample]]
) -> dict[str, list[PageFigure]]:
    """All figures of the page, by the title of their group."""
    groups = {one.title: configuration_figures(folder, one) for one in found}
    simulated: dict[str, PageFigure | None] = {}
    for one in found:
        examples = first[one.number]
        save_grids(folder, one, examples)
        images = json.dumps(setting(one.config, "data"), sort_keys=True)
        if examples and images not in simulated:
            dataset = str(one.dataset or setting(one.config, "data.source"))
            simulated[images] = simulation_figure(folder, len(simulated) + 1, examples, dataset)
    more = [sweep_figure(folder, number, sweep) for number, sweep in enumerate(sweeps(found), 1)]
    more += filter(None, simulated.values())
    return {**groups, "All runs": more} if more else groups
