"""Train what is not trained yet of a run, evaluate its best models, and write results and pictures.

    fcam train --config=cub:resnet50,layercam --workdir=runs/cub --config.data.root=CUB

`--config` is a packaged benchmark, or a file of your own, with its argument after a colon; `--config.key=value` changes
a value of it: `fcam train --config=cub --help` lists the keys. The same command goes on where an interrupted one
stopped.
"""

import argparse

from fcam_jax.cli import together
from fcam_jax.cli.together import AGAIN as AGAIN


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    together.declare_configured(parser, required=True)


def run(options: argparse.Namespace) -> None:
    """Train and evaluate."""
    together.begin()
    folder = together.only(options.workdir)
    from fcam_jax.configuration import configuration
    from fcam_jax.runs import job

    config = configuration(options.config, options.overrides)
    together.carry_out(options, lambda: job.train(config, folder, options.split))
