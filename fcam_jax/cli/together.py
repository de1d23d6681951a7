"""What `train`, `eval` and `report` share: options, messages, and several processes that are one run."""

import argparse
import faulthandler
import logging
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from fcam_jax.cli.command import in_one_line
from fcam_jax.errors import InputError
from fcam_jax.runtime import preemption

AGAIN = "the same command goes on from the last checkpoint"


def declare(parser: argparse.ArgumentParser) -> None:
    """The folder of a run, or of several, and how processes find each other where no cluster tells them."""
    parser.add_argument("--workdir", action="append", default=[], type=pathlib.Path, help="folder of the run")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, without Slurm, Open MPI or TPU slice")
    parser.add_argument("--processes", type=int, metavar="N", help="with --coordinator: the number of processes")
    parser.add_argument("--process", type=int, metavar="I", help="with --coordinator: which process this is, from 0")


def declare_configured(parser: argparse.ArgumentParser, required: bool) -> None:
    """The configuration and the images to evaluate, and as `declare`."""
    text = "benchmark, or path of a file of yours"
    parser.add_argument("--config", required=required, metavar="NAME[:ARGS]", help=text)
    parser.add_argument("--split", choices=("train", "val", "test"), default="test", help="the images to evaluate")
    declare(parser)


def only(folders: list[pathlib.Path]) -> pathlib.Path:
    """The folder of a run. Raises InputError: there is none, or there are several."""
    if len(folders) == 1:
        return folders[0]
    several = "--workdir: a run has one folder; several are for a report"
    raise InputError(several if folders else "--workdir=DIR is missing")


def begin() -> None:
    """Show the messages of this package on standard error, one plain line each."""
    from absl import flags
    from absl import logging as absl_logging

    faulthandler.enable()
    flags.FLAGS.mark_as_parsed()  # libraries ask for flags of theirs, which have their defaults
    absl_logging.set_verbosity(absl_logging.ERROR)  # Orbax tells of every file that it writes, and every wait
    # Orbax tells of an error in its threads with a traceback; it is raised, too, and then told in one line.
    absl_logging.get_absl_logger().addFilter(lambda record: record.exc_info is None)
    logger = logging.getLogger("fcam_jax")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    logger.propagate = False
    sys.unraisablehook = _tell_unraisable


def carry_out(options: argparse.Namespace, work: Callable[[], str]) -> None:
    """Join the other processes, if there are any, do the work, and print what it returns."""
    from fcam_jax.runtime import hosts

    preemption.stop_if_alone()
    hosts.start(options.coordinator, options.processes, options.process)
    if not hosts.is_first():
        logging.getLogger("fcam_jax").setLevel(logging.ERROR)
    with hosts.ending_together(), in_one_line(AGAIN):
        preemption.stop_if_requested()
        said = work()
        if hosts.is_first():
            print(said, flush=True)


def _tell_unraisable(unraisable: Any) -> None:
    """Python's own telling, but not of the writes that come to their end after one of them has failed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)
