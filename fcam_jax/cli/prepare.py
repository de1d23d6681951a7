"""A data set of the protocol made ready for training, out of whatever its user has: folders or archives.

    fcam prepare --dataset=cub --source=DOWNLOADS --data_dir=DATA

What is written is read by `--config.data.source=tfds`. `docs/data/` has a page for each data set.
"""

import argparse
import sys

from fcam_jax.cli.command import declare, given
from fcam_jax.data.published.prepare import LEFT_OUT, SAMPLES, Preparation, left_out_of, summary
from fcam_jax.errors import OF_THE_DISK

AGAIN = "start again to go on"


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    declare(parser, Preparation)


def run(options: argparse.Namespace) -> None:
    """Prepare the data set, and tell what was prepared by what can be read of it."""
    preparation = given(Preparation, options)
    if preparation.is_done():
        print(f"{preparation.folder} is prepared already; remove it to prepare it again")
    try:
        preparation.prepare()
        facts = preparation.finish()
    except OSError as error:
        if error.errno in OF_THE_DISK:
            raise
        sys.exit(f"error: {error.filename or options.data_dir}: {error.strerror or error}; what is done is kept")
    print(summary(facts))
    if left_out_of(facts):
        print(f"left out: {preparation.folder / LEFT_OUT}")
    print(f"samples:  {preparation.folder / SAMPLES}")
    names = f"--config.data.root={options.data_dir} --config.data.tfds={preparation.published.name}"
    print(f"to train: --config.data.source=tfds {names}")
