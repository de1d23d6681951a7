"""Everything that is wrong with a data set, told at once.

    fcam check --root=DIR [--out=DIR/manifest.jsonl]

Opens every image and mask, lists every problem with its file and line, and ends with a table of the splits. Exits with
status 1 when there are errors. `docs/data/own.md` shows the layouts that a data set may have.
"""

import argparse
import sys

from fcam_jax.cli.command import declare, given
from fcam_jax.data.checking import Check
from fcam_jax.data.folder import Folder
from fcam_jax.runtime.text import printable


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    declare(parser, Folder, "on_error")
    declare(parser, Check, "most")


def run(options: argparse.Namespace) -> int:
    """Check a data set and print what is found; the status is 1 where that is an error."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    report = given(Check, options).report(given(Folder, options))
    for problem in report.problems:
        print(f"{problem.severity}: {problem}")
    counts = f"{report.errors} error(s), {len(report.problems) - report.errors} warning(s)"
    print(f"{printable(str(report.place.root))}: layout {report.place.layout}, {counts}")
    print(report.table())
    if options.out is not None:
        print(f"{printable(str(options.out))}: {report.usable} images")
    return 1 if report.errors else 0
