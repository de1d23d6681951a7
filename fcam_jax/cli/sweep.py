"""Many runs as one job: those that are not done are run, one after the other; all of them end in tables and a report.

    fcam sweep --sweep=NAME[:args] --workdir=DIR [--only=PATTERN] [--print | --dry-run] [--config.key=value ...]

`docs/sweeps.md` says how to write a sweep and how to run one on a cluster.
"""

import argparse
import pathlib
import signal

from fcam_jax.errors import InputError
from fcam_jax.runtime import preemption

AGAIN = "the same command goes on where this one stopped"


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--sweep", required=True, metavar="NAME[:ARGS]", help="packaged sweep, or path of your file")
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of the runs' folders")
    parser.add_argument("--only", metavar="PATTERN", help="runs whose names match, as in 'layercam-*'")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--print", action="store_true", help="a command a line for what is not done; run nothing")
    instead.add_argument("--dry-run", action="store_true", help="say what is done and what is to do; run nothing")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Run what is not done of a sweep, one run after the other, and report on all of it."""
    if options.words:
        raise InputError(f"{options.words[0]!r}: a sweep passes --config.key=value to its runs, and nothing else")
    preemption.listen(signal.SIGHUP)  # the run that is going on is to be stopped before this process
    from fcam_jax.runs.sweeps.job import carry_out_sweep

    return 1 if carry_out_sweep(options, options.overrides) else 0
