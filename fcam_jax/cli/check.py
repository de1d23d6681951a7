"""Everything that is wrong with a data set, told at once.

    fcam check --root=DIR [--out=DIR/manifest.jsonl]

Opens every image and mask, lists every problem with its file and line, and ends with a table of the splits. Exits with
status 1 when there are errors. `docs/data/own.md` shows the layouts that a data set may have.
"""

import argparse
import pathlib
import sys
from typing import Any

from fcam_jax.component import at_key, defaults_of, meanings_of
from fcam_jax.data.checking import Check
from fcam_jax.data.folder import Folder
from fcam_jax.runtime.text import printable


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    meanings = meanings_of(Check) | meanings_of(Folder)
    parser.add_argument("--root", required=True, help=meanings["root"])
    for name, default in _settings().items():
        if isinstance(default, bool):
            parser.add_argument(f"--{name}", action="store_true", help=meanings[name])
        else:
            kind = _numbers if isinstance(default, tuple) else type(default)
            parser.add_argument(f"--{name}", type=kind, default=default, help=meanings[name])
    parser.add_argument("--splits", default=Check.splits, help=meanings["splits"])
    parser.add_argument("--workers", type=int, default=Check.workers, help=meanings["workers"])
    parser.add_argument("--quick", action="store_true", help=meanings["quick"])
    parser.add_argument("--out", type=pathlib.Path, help=meanings["out"])


def run(options: argparse.Namespace) -> int:
    """Check a data set and print what is found; the status is 1 where that is an error."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with at_key("--"):
        check = Check(splits=options.splits, workers=options.workers, quick=options.quick, out=options.out)
        data = Folder(root=options.root, **{name: getattr(options, name) for name in _settings()})
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


def _settings() -> dict[str, Any]:
    """The data set's settings that are options here, with their defaults."""
    return {name: value for name, value in defaults_of(Folder).items() if name not in ("root", "on_error")}


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))
