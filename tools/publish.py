"""Results for the repository: runs into one file of data, and tables in Markdown pages and plots made from that file.

    fcam publish --workdir=runs/cub50 --data=docs/results/cub50.json [--examples-of=NAME]
    fcam publish --data=docs/results/cub50.json --page=docs/results.md --page=README.md

`docs/report.md` says what is in the file and which blocks a page may have.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from fcam_jax.errors import InputError
from fcam_jax.runs.report.paper import FCAM_ROW
from fcam_jax.runs.report.runs import StoredRun
from fcam_jax.runtime.files import replace_file
from tools.publication import collect
from tools.publication.blocks import BLOCKS, block
from tools.publication.data import Published, data_text, name_of, read_published
from tools.publication.pages import filled
from tools.publication.plots import save_examples, save_plots


def run(options: argparse.Namespace) -> None:
    """Do what the options say.

    Raises:
      InputError: runs, data or a page cannot be used; no page is changed then.
    """
    if options.data.suffix != ".json":
        raise InputError(f"--data={options.data}: results are a .json file; pages are given by --page")
    if options.workdir:
        _collect(options.workdir, options.data, options.examples_of)
    elif options.examples_of is not None:
        raise InputError("--examples-of needs the runs; add --workdir=DIR")
    data = read_published(options.data)
    pages = {page: _filled(page, options.data.stem, data) for page in options.page}
    for path in save_plots(options.data, data):
        print(path)
    for page, (old, new) in pages.items():
        if new != old:
            replace_file(page, new)
        print(f"{page}{' is as it was' if new == old else ''}")
    if not pages and not options.workdir:
        print(
            "".join(
                f"\n<!-- publish: {options.data.stem} {name} -->\n\n{block(name, data)}\n<!-- /publish -->\n"
                for name in BLOCKS
            )
        )


def _collect(workdirs: Sequence[pathlib.Path], path: pathlib.Path, examples_of: str | None) -> None:
    collected = collect.collect(workdirs)
    for folder in collected.left_out:
        print(f"left out, as it was not evaluated: {folder}", file=sys.stderr)
    chosen = _examples_of(collected.runs, examples_of)
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [] if chosen is None else save_examples(path, chosen)
    fields = collect.fields(collected, name_of(chosen) if chosen is not None and pictures else None)
    replace_file(path, data_text(fields))
    for one in (path, *pictures):
        print(one)


def _examples_of(runs: Sequence[StoredRun], name: str | None) -> StoredRun | None:
    """The run whose examples are shown: the one of the name, or the first with F-CAM."""
    if name is None:
        return next((run for run in runs if any(record.row == FCAM_ROW for record in run.records)), None)
    named = [run for run in runs if name_of(run) == name]
    if not named:
        raise InputError(f"--examples-of={name}: no evaluated run is called so; there: {', '.join(map(name_of, runs))}")
    return named[0]


def _filled(page: pathlib.Path, name: str, data: Published) -> tuple[str, str]:
    """The text of a page as it is and as it is to be."""
    if not page.is_file():
        raise InputError(f"--page={page}: no such file; write the page, with blocks as in docs/report.md")
    try:
        text = page.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"--page={page} is no text in UTF-8 ({error.reason} at byte {error.start})") from error
    return text, filled(text, str(page), name, BLOCKS, lambda of: block(of, data))


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = f"Blocks of pages: {', '.join(BLOCKS)}."
    path = pathlib.Path
    parser.add_argument("--data", type=path, required=True, help="file of results, .json; plots lie beside it")
    parser.add_argument(
        "--workdir", type=path, action="append", default=[], help="folder of runs, or of one, to collect into --data"
    )
    parser.add_argument(
        "--page", type=path, action="append", default=[], help="Markdown page to fill; without any, blocks are printed"
    )
    parser.add_argument("--examples-of", metavar="NAME", help="run whose examples are shown; the first with F-CAM")
