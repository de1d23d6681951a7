"""Train a classifier and F-CAM on it, evaluate both, report on runs: `fcam train|eval|report` as one program.

    python -m fcam_jax.main --config=configs/NAME.py[:args] --workdir=DIR [--mode=train|eval] [--config.key=value ...]
    python -m fcam_jax.main --mode=eval --checkpoint=PATH [--split=val] [--config=... --workdir=DIR]
    python -m fcam_jax.main --mode=report --workdir=DIR [--workdir=DIR ...] [--out=DIR]

Several processes are one run under Slurm, Open MPI and on TPU slices, or where each is told of the others:

    python -m fcam_jax.main ... --coordinator=HOST:PORT --processes=N --process=I
"""

if __name__ == "__main__":
    from fcam_jax.runtime import preemption

    preemption.listen()

import argparse
import pathlib
import sys
from collections.abc import Sequence

from fcam_jax.cli import command, eval, report, together, train
from fcam_jax.errors import InputError

MODES = {"train": train, "eval": eval, "report": report}


def main(words: Sequence[str] | None = None) -> int:
    """Carry out a command line; returns the exit status."""
    with command.in_one_line(together.AGAIN):
        words = sys.argv[1:] if words is None else words
        options = command.parsed("python -m fcam_jax.main", str(__doc__), _options, words)
        if options.checkpoint is not None and options.mode != "eval":
            raise InputError("--checkpoint is for --mode=eval, with at most one --workdir, which is written to")
        if options.config is None and options.mode == "train":
            raise InputError("--config=configs/NAME.py is missing")
        MODES[options.mode].run(options)
    return 0


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=MODES, default="train", help="train and evaluate, evaluate only, or report")
    eval.options(parser)
    parser.add_argument("--out", type=pathlib.Path, help="folder of the report")


if __name__ == "__main__":
    sys.exit(main())
