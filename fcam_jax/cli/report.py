"""Write a page on one evaluated run or many.

    fcam report --workdir=runs/demo [--workdir=runs/cub ...] [--out=report]

It has tables beside the paper's, curves, and test images with a threshold to move.
"""

import argparse
import pathlib

from fcam_jax.cli import together
from fcam_jax.errors import InputError


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=pathlib.Path, help="folder of the page; by default `report` in the first workdir")
    together.declare(parser)


def run(options: argparse.Namespace) -> None:
    """Write the page."""
    together.begin()
    if not options.workdir:
        raise InputError("--workdir=DIR is missing; several are one report")

    def report() -> str:
        from fcam_jax.runs.report.report import write_report
        from fcam_jax.runtime import hosts

        out = options.out or options.workdir[0] / "report"
        return str(hosts.of_first(lambda: str(write_report(options.workdir, out))))

    together.carry_out(options, report)
