"""Evaluate a run, or any checkpoint, on a split of its data or of another.

fcam eval --config=cub:resnet50,layercam --workdir=runs/cub --split=val
fcam eval --checkpoint=runs/cub [--config.data.root=DIR] [--workdir=OUT]
"""

import argparse
import pathlib

from fcam_jax.cli import together
from fcam_jax.cli.together import AGAIN as AGAIN
from fcam_jax.errors import InputError


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    together.declare_configured(parser, required=False)
    text = "run, stage in it, or one of its checkpoints; --workdir is then written to"
    parser.add_argument("--checkpoint", type=pathlib.Path, help=text)


def run(options: argparse.Namespace) -> None:
    """Evaluate."""
    together.begin()
    from fcam_jax.configuration import configuration

    if options.config is None and options.checkpoint is None:
        raise InputError("--config=NAME is missing; or give --checkpoint=RUN, which knows its configuration")
    config = None if options.config is None else configuration(options.config, options.overrides)
    if options.checkpoint is None:
        folder = together.only(options.workdir)
    elif len(options.workdir) > 1:
        raise InputError("--checkpoint has at most one --workdir, which is written to")

    def evaluate() -> str:
        from fcam_jax.runs import job, trained

        if options.checkpoint is None:
            return job.evaluate(config, folder, options.split)
        out = options.workdir[0] if options.workdir else None
        settings = None if config is None else config.to_dict()
        values = options.overrides if config is None else {}
        return trained.evaluate_checkpoint(options.checkpoint, settings, out, options.split, values)

    together.carry_out(options, evaluate)
