"""Command line: train a classifier and F-CAM on it, evaluate both, report on runs.

python -m fcam_jax.main --config=configs/NAME.py[:args] --workdir=DIR [--mode=train|eval] [--config.key=value ...]
python -m fcam_jax.main --mode=eval --checkpoint=PATH [--split=val] [--config=... --workdir=DIR]
python -m fcam_jax.main --mode=report --workdir=DIR [--workdir=DIR ...] [--out=DIR]

Several processes are one run under Slurm, Open MPI and on TPU slices, or where each is told of the others:
python -m fcam_jax.main ... --coordinator=HOST:PORT --processes=N --process=I
"""

import contextlib
import logging
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from fcam_jax.configuration import command_line
from fcam_jax.errors import OF_THE_DISK, REQUEUE, InputError, Preempted
from fcam_jax.runtime import preemption

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Benchmark, e.g. configs/cub.py or configs/cub.py:vgg16,layercam."
)
_WORKDIR = flags.DEFINE_multi_string(
    "workdir", None, "Folder of the run: checkpoints, logs, results.json, pictures. A report takes several."
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "report"],
    "Train what is not trained yet and evaluate, evaluate only, or write a page on evaluated runs.",
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "With --mode=eval: what to evaluate; a run, a stage in it, or one of its checkpoints."
)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "val", "test"], "The images to evaluate.")
_OUT = flags.DEFINE_string("out", None, "Folder of the report; by default `report` in the first workdir.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of process 0, for several processes that are not tasks of Slurm, Open MPI or a TPU slice.",
)
_PROCESSES = flags.DEFINE_integer("processes", None, "With --coordinator: the number of processes.")
_PROCESS = flags.DEFINE_integer("process", None, "With --coordinator: which process this is, from 0.")

_AGAIN = "the same command goes on from the last checkpoint"


def main(argv: list[str]) -> None:
    """Join the other processes, if there are any, and do what the flags say."""
    if len(argv) > 1:
        raise InputError(f"unexpected argument {argv[1]!r}; options start with --")
    # Imported here: a mistyped flag is answered at once, not after the libraries have loaded.
    from fcam_jax.runtime import hosts

    hosts.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    if not hosts.is_first():
        logging.getLogger("fcam_jax").setLevel(logging.ERROR)
    with hosts.ending_together(), _said_in_one_line():
        said = _carry_out()
        if hosts.is_first():
            print(said)


def _carry_out() -> str:
    """Build the experiment and run it; returns what is to be printed."""
    from fcam_jax.runs import build, experiment, stage_evaluation, trained
    from fcam_jax.runs import folder as workdir
    from fcam_jax.runs.report.report import write_report
    from fcam_jax.runtime import hosts

    folders = [pathlib.Path(name) for name in _WORKDIR.value or ()]
    if _CHECKPOINT.value is not None:
        if _MODE.value != "eval" or len(folders) > 1:
            raise InputError("--checkpoint is for --mode=eval, with at most one --workdir, which is written to")
        out = folders[0] if folders else None
        settings = _CONFIG.value and _CONFIG.value.to_dict()
        return trained.evaluate_checkpoint(pathlib.Path(_CHECKPOINT.value), settings, out, _SPLIT.value)
    folder, *others = folders
    if _MODE.value == "report":
        out = pathlib.Path(_OUT.value or folder / "report")
        return str(hosts.of_first(lambda: write_report([folder, *others], out)))
    if others:
        raise InputError("--workdir: a run has one folder; several are for --mode=report")
    config: ConfigDict = build.resolved(_CONFIG.value)
    plan = build.experiment(config)
    with workdir.occupied(folder):
        config_hash = workdir.claim(folder, config.to_dict())
        if _MODE.value == "train":
            experiment.train_stages(plan, folder, workdir.training_hash(config.to_dict()))
            if _SPLIT.value not in plan.split_sizes:
                split = _SPLIT.value
                return f"trained; the data has no {split} split to evaluate. Maps of your images: fcam_jax.cli.predict"
        return stage_evaluation.evaluate_stages(plan, folder, config_hash, _SPLIT.value)


def run() -> None:
    """Entry point: what the user can mend is said in one line, without a traceback."""
    preemption.listen()
    _show_messages()
    absl_logging.set_verbosity(absl_logging.ERROR)  # Orbax tells of every file that it writes, and every wait
    with _said_in_one_line():
        app.run(main, flags_parser=_parse)


@contextlib.contextmanager
def _said_in_one_line() -> Iterator[None]:
    """What the user can mend, or has done, ends the program with a line and without a traceback."""
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            raise
        sys.exit(
            f"error: {error.filename or 'a file'} cannot be written: {error.strerror}; once that is mended, {_AGAIN}"
        )
    except Preempted:
        print(f"asked to stop; {_AGAIN}", file=sys.stderr)
        sys.exit(REQUEUE)
    except KeyboardInterrupt:
        sys.exit(f"interrupted; {_AGAIN}")


def _show_messages() -> None:
    """Messages of this package on standard error, one plain line each; absl's handler would add a prefix to them."""
    logger = logging.getLogger("fcam_jax")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler())
    logger.propagate = False
    # Orbax tells of an error in its threads with a traceback; it is raised, too, and then told in one line.
    absl_logging.get_absl_logger().addFilter(lambda record: record.exc_info is None)
    sys.unraisablehook = _tell_unraisable


def _tell_unraisable(unraisable: Any) -> None:
    """Python's own telling, but not of the writes that come to their end after one of them has failed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _parse(argv: list[str]) -> list[str]:
    """Parse the flags; every mistake becomes one line."""
    options = command_line.given(argv)
    if "checkpoint" not in options:
        flags.mark_flags_as_required(["workdir"] if options.get("mode") == "report" else ["config", "workdir"])
    return command_line.parse(argv, flags.FLAGS)


if __name__ == "__main__":
    run()
