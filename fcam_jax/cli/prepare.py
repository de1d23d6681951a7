"""A data set of the protocol made ready for training, out of whatever its user has: folders or archives.

    fcam prepare --dataset=cub --source=DOWNLOADS --data_dir=DATA

What is written is read by `--config.data.source=tfds`. `docs/data/` has a page for each data set.
"""

import argparse
import pathlib
import sys

from fcam_jax.component import at_key, meanings_of
from fcam_jax.data.layouts.problems import ON_ERROR
from fcam_jax.data.published.prepare import LEFT_OUT, SAMPLES, Preparation, left_out_of, summary
from fcam_jax.errors import OF_THE_DISK

AGAIN = "start again to go on"


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    meanings = meanings_of(Preparation)
    parser.add_argument("--dataset", required=True, help=meanings["dataset"])
    parser.add_argument("--source", type=_path, required=True, help=meanings["source"])
    parser.add_argument("--data_dir", type=_path, required=True, help=meanings["data_dir"])
    parser.add_argument("--metadata", type=_path, help=meanings["metadata"])
    parser.add_argument("--metadata_url", default=Preparation.metadata_url, help=meanings["metadata_url"])
    parser.add_argument("--workers", type=int, default=Preparation.workers, help=meanings["workers"])
    parser.add_argument("--partial", action="store_true", help=meanings["partial"])
    parser.add_argument("--on_error", choices=ON_ERROR, default="fail", help=meanings["on_error"])


def run(options: argparse.Namespace) -> None:
    """Prepare the data set, and tell what was prepared by what can be read of it."""
    settings = {name: value for name, value in vars(options).items() if name in meanings_of(Preparation)}
    with at_key("--"):
        preparation = Preparation(**settings)
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


def _path(text: str) -> pathlib.Path:
    """As TFDS takes it; a shell leaves the ~ of --data_dir=~/data alone."""
    return pathlib.Path(text).expanduser()
