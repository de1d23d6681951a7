"""The report on one run or many: tables, figures, grids of examples, and a page that shows all of them.

In: the folders of runs that were evaluated. Out, in one folder: `index.html`, which needs no other file; `tables.md`;
`figures/` with every plot as PNG and SVG and the grids as PNG.
"""

import json
import logging
import pathlib
import tempfile
from collections.abc import Mapping, Sequence

from fcam_jax.configuration.flat import setting
from fcam_jax.errors import InputError
from fcam_jax.runs.report import tables
from fcam_jax.runs.report.aggregate import Configuration, configurations, sweeps, table_rows
from fcam_jax.runs.report.detail_tables import details
from fcam_jax.runs.report.figures import configuration_figures, save_grids, simulation_figure, sweep_figure
from fcam_jax.runs.report.page import PageExamples, PageFigure, PixelBlocks, write_page
from fcam_jax.runs.report.runs import StoredRun, read_run, run_folders
from fcam_jax.runs.report.stored_examples import StoredExample, read_examples, read_pixels
from fcam_jax.runtime.progress import counted
from fcam_jax.runtime.text import printable

logger = logging.getLogger(__name__)

Kept = Mapping[pathlib.Path, PageExamples]


def write_report(workdirs: Sequence[pathlib.Path], out: pathlib.Path) -> pathlib.Path:
    """Write the report on runs.

    What is damaged, an example, a record or a run, is left out and listed; a folder that is no run ends the report.

    Args:
      workdirs: folders of evaluated runs; one that is named twice counts once.
      out: the folder to write to; made where it does not exist.

    Returns:
      The page.

    Raises:
      InputError: no folder is given, one is no evaluated run, a record in it is damaged, or `out` cannot be written to.
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
    found = configurations(runs)
    try:
        with tempfile.TemporaryFile("w+", encoding="ascii") as file:
            return _write(runs, found, out, PixelBlocks(file), left_out)
    except OSError as error:
        raise InputError(f"--out={out} cannot be written to: {error.strerror} ({error.filename})") from error


def _write(
    runs: Sequence[StoredRun],
    found: Sequence[Configuration],
    out: pathlib.Path,
    pixels: PixelBlocks,
    left_out: list[str],
) -> pathlib.Path:
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {run.folder: _examples(run, one, pixels, left_out) for one in found for run in one.runs}
    rows = [row for one in found for row in table_rows(one)]
    shown = [tables.results(rows), *tables.paper_tables(rows), *details(found)]
    text = "\n".join(map(tables.markdown, shown))
    if left_out:
        text += "\nLeft out:\n\n" + "".join(f"    {printable(line)}\n" for line in left_out)
    (out / "tables.md").write_text(f"# F-CAM report\n\n{text}", encoding="utf-8")
    for line in left_out:
        logger.warning("left out: %s", line)
    images = sum(len(examples.examples) for examples in kept.values())
    page = out / "index.html"
    write_page(
        page,
        about=f"{_count(len(runs), 'run')} of {_count(len(found), 'configuration')}, {_count(images, 'example')}",
        tables=shown,
        figures=_figures(folder, found, kept),
        runs=list(kept.values()),
        left_out=left_out,
        pixels=pixels,
    )
    return page


def _examples(run: StoredRun, one: Configuration, pixels: PixelBlocks, left_out: list[str]) -> PageExamples:
    """The examples of a run whose pixels can be read; they are added to the page's, the others to those left out."""
    rows = list(dict.fromkeys(record.row for record in run.records))
    examples, damaged = read_examples(run.folder, rows, run.class_names)
    left_out += damaged
    kept: list[StoredExample] = []
    sizes = []
    for example in counted(iter(examples), f"examples of {run.folder.name}", len(examples), "image"):
        try:
            found = read_pixels(example)
        except InputError as error:
            left_out.append(str(error))
            continue
        pixels.add(found)
        kept.append(example)
        sizes.append((found.image.shape[0], found.image.shape[1]))
    return PageExamples(f"{one.title} (seed {run.seed}, {run.folder.name})", rows, run.class_names, kept, sizes)


def _figures(folder: pathlib.Path, found: Sequence[Configuration], kept: Kept) -> dict[str, list[PageFigure]]:
    """All figures of the page, by the title of their group."""
    groups = {one.title: configuration_figures(folder, one) for one in found}
    for one in found:
        save_grids(folder, one, kept[one.runs[0].folder].examples)
    more = [sweep_figure(folder, number, sweep) for number, sweep in enumerate(sweeps(found), 1)]
    simulations: dict[str, PageFigure | None] = {}
    for one in found:
        examples = kept[one.runs[0].folder].examples
        images = json.dumps(setting(one.config, "data"), sort_keys=True)
        if examples and images not in simulations:
            dataset = str(one.dataset or setting(one.config, "data.source"))
            simulations[images] = simulation_figure(folder, len(simulations) + 1, examples, dataset)
    more += [figure for figure in simulations.values() if figure is not None]
    return {**groups, "All runs": more} if more else groups


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
