"""Weights out of a run's best checkpoints, for other programs: safetensors files by torchvision's or Keras' names.

    fcam export --workdir=runs/cub --out=DIR

writes `DIR/classifier.safetensors` (encoder and classification layer) and, where F-CAM is trained,
`DIR/decoder.safetensors`. `config.model.init=DIR` and `config.fcam.init=DIR` take them back.
"""

import argparse
import pathlib


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of the run")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the weight files")


def run(options: argparse.Namespace) -> None:
    """Export the weights of a run."""
    from fcam_jax.runs import build
    from fcam_jax.runs.export import export
    from fcam_jax.runs.folder import recorded

    stages = build.recorded_stages(recorded(options.workdir))
    options.out.mkdir(parents=True, exist_ok=True)
    for path in export(stages, options.workdir, options.out):
        print(path)
