"""Everything that is wrong with a data set, told at once.

    fcam check --root=DIR [--out=DIR/manifest.jsonl]

Opens every image and mask, lists every problem with its file and line, and ends with a table of the splits. Exits with
status 1 when there are errors. `docs/data/own.md` shows the layouts that a data set may have.
"""

import argparse
import pathlib
import sys

from fcam_jax.component import at_key, defaults_of, meanings_of
from fcam_jax.data.checking import Check
from fcam_jax.data.folder import Folder
from fcam_jax.data.layouts.registry import LAYOUTS
from fcam_jax.runtime.text import printable


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    meanings = meanings_of(Check)
    parser.add_argument("--root", required=True, help="the data set's folder")
    parser.add_argument("--layout", default="", help=f"{', '.join(LAYOUTS)}; by default the one it has")
    parser.add_argument("--num_classes", type=int, default=0, help="by default as many as the data set has")
    parser.add_argument("--upright", action="store_true", help="images are meant as their EXIF orientation says")
    for name in ("boxes", "unlocalized"):
        parser.add_argument(f"--{name}", default=defaults_of(Folder)[name], help=meanings_of(Folder)[name])
    parser.add_argument("--splits", default=Check.splits, help=meanings["splits"])
    parser.add_argument("--workers", type=int, default=Check.workers, help=meanings["workers"])
    parser.add_argument("--quick", action="store_true", help=meanings["quick"])
    parser.add_argument("--out", type=pathlib.Path, help=meanings["out"])


def run(options: argparse.Namespace) -> int:
    """Check a data set and print what is found; the status is 1 where that is an error."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with at_key("--"):
        check = Check(splits=options.splits, workers=options.workers, quick=options.quick, out=options.out)
        names = ("root", "layout", "num_classes", "upright", "boxes", "unlocalized")
        data = Folder(**{name: getattr(options, name) for name in names})
    report = check.report(data)
    for problem in report.problems:
        print(f"{problem.severity}: {problem}")
    warnings = len(report.problems) - report.errors
    print(
        f"{printable(str(report.place.root))}: layout {report.place.layout}, "
        f"{report.errors} error(s), {warnings} warning(s)"
    )
    print(report.table())
    if options.out is not None:
        print(f"{printable(str(options.out))}: {report.usable} images")
    return 1 if report.errors else 0
