"""Command line: train a classifier and F-CAM on it, evaluate both, report on runs.

python -m fcam_jax.main --config=configs/NAME.py[:args] --workdir=DIR [--mode=train|eval] [--config.key=value ...]
python -m fcam_jax.main --mode=eval --checkpoint=PATH [--split=val] [--config=... --workdir=DIR]
python -m fcam_jax.main --mode=report --workdir=DIR [--workdir=DIR ...] [--out=DIR]
"""

import logging
import pathlib
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from fcam_jax import command_line
from fcam_jax.errors import InputError

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


def main(argv: list[str]) -> None:
    """Build the experiment and run it."""
    if len(argv) > 1:
        raise InputError(f"unexpected argument {argv[1]!r}; options start with --")
    # Imported here: a mistyped flag is answered at once, not after the libraries have loaded.
    from fcam_jax import build, experiment, stage_evaluation, trained, workdir
    from fcam_jax.report.report import write_report

    folders = [pathlib.Path(name) for name in _WORKDIR.value or ()]
    if _CHECKPOINT.value is not None:
        if _MODE.value != "eval" or len(folders) > 1:
            raise InputError("--checkpoint is for --mode=eval, with at most one --workdir, which is written to")
        out = folders[0] if folders else None
        settings = _CONFIG.value and _CONFIG.value.to_dict()
        print(trained.evaluate_checkpoint(pathlib.Path(_CHECKPOINT.value), settings, out, _SPLIT.value))
        return
    folder, *others = folders
    if _MODE.value == "report":
        print(write_report([folder, *others], pathlib.Path(_OUT.value or folder / "report")))
        return
    if others:
        raise InputError("--workdir: a run has one folder; several are for --mode=report")
    config: ConfigDict = build.resolved(_CONFIG.value)
    plan = build.experiment(config)
    config_hash = workdir.claim(folder, config.to_dict())
    if _MODE.value == "train":
        experiment.train_stages(plan, folder)
        if _SPLIT.value not in plan.split_sizes:
            print(f"trained; the data has no {_SPLIT.value} split to evaluate. Maps of your images: fcam_jax.predict")
            return
    print(stage_evaluation.evaluate_stages(plan, folder, config_hash, _SPLIT.value))


def run() -> None:
    """Entry point: what the user can mend is said in one line, without a traceback."""
    _show_messages()
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax tells of every file that it writes
    try:
        app.run(main, flags_parser=_parse)
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from the last checkpoint")


def _show_messages() -> None:
    """Messages of this package on standard error, one plain line each; absl's handler would add a prefix to them."""
    logger = logging.getLogger("fcam_jax")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler())
    logger.propagate = False


def _parse(argv: list[str]) -> list[str]:
    """Parse the flags; every mistake becomes one line."""
    options = command_line.given(argv)
    if "checkpoint" not in options:
        flags.mark_flags_as_required(["workdir"] if options.get("mode") == "report" else ["config", "workdir"])
    return command_line.parse(argv, flags.FLAGS)


if __name__ == "__main__":
    run()
