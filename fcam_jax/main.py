"""Command line: train a classifier and F-CAM on it, evaluate both, report on runs.

python -m fcam_jax.main --config=configs/NAME.py[:args] --workdir=DIR [--mode=train|eval] [--config.key=value ...]
python -m fcam_jax.main --mode=eval --checkpoint=PATH [--split=val] [--config=... --workdir=DIR]
python -m fcam_jax.main --mode=report --workdir=DIR [--workdir=DIR ...] [--out=DIR]
"""

import difflib
import logging
import pathlib
import re
import sys
from collections.abc import Mapping

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

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

# What the flag library raises for mistakes on the command line and for names that a benchmark file gets wrong.
_MISTAKES = (flags.Error, AttributeError, KeyError, ValueError, TypeError, ImportError, OSError)


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
    options = dict(re.findall(r"^--?([\w.]+)[=\n](.*)$", "\n".join(argv), flags=re.MULTILINE))
    if "checkpoint" not in options:
        flags.mark_flags_as_required(["workdir"] if options.get("mode") == "report" else ["config", "workdir"])
    path = options.get("config", "").partition(":")[0]
    overrides = [name for name in options if name.startswith("config.")]
    if overrides and not path:
        raise InputError(f"--{overrides[0]} changes a benchmark's value: it needs --config=configs/NAME.py too")
    if "config" in options and not pathlib.Path(path).is_file():
        raise InputError(f"--config: no such benchmark file: {path!r}")
    try:
        return flags.FLAGS(argv)
    except _MISTAKES as error:
        if path and not isinstance(error, flags.Error):
            _check_keys(options)
        raise InputError(_last_message(str(error))) from error


def _check_keys(options: Mapping[str, str]) -> None:
    """Raise for the first option that names no key of the configuration, where that can be loaded at all."""
    try:
        config = flags.FLAGS["config"].parser.parse(options["config"])
    except _MISTAKES:
        return
    for option in options:
        _check_key(option, config)


def _check_key(option: str, config: ConfigDict) -> None:
    """Raise where an option config.a.b names what the configuration does not hold."""
    node = config
    for name in option.split(".")[1:]:
        known = sorted(node) if isinstance(node, ConfigDict) else []
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(f"unknown configuration key {option}: {hint}known: {', '.join(known) or 'none'}")
        node = node[name]


def _last_message(text: str) -> str:
    """The text in one line; of a quoted traceback only the exception's own message."""
    return re.sub(
        r"Error whilst parsing config file: Traceback .*?\b\w+(?:Error|Exception): ", "", " ".join(text.split())
    )


if __name__ == "__main__":
    run()
