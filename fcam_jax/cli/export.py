"""Weights out of a run's best checkpoints, for other programs: safetensors files by torchvision's or Keras' names.

    python -m fcam_jax.cli.export --workdir=runs/cub --out=DIR

writes `DIR/classifier.safetensors` (encoder and classification layer) and, where F-CAM is trained,
`DIR/decoder.safetensors`. `config.model.init=DIR` and `config.fcam.init=DIR` take them back.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from fcam_jax.errors import InputError
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.import_weights import export_weights, save_weights
from fcam_jax.runs import build
from fcam_jax.runs import folder as workdir
from fcam_jax.runs.experiment import Stage, has_begun, trained_model


def export(stages: Sequence[Stage], folder: pathlib.Path, out: pathlib.Path) -> list[pathlib.Path]:
    """Write the best model of the last trained stage, whose classifier is that of the first unless both were trained.

    Args:
      stages: classifier and F-CAM.
      folder: the run's.
      out: the folder to write to.

    Returns:
      The files written.

    Raises:
      InputError: the classifier is not trained, or a checkpoint cannot be used.
    """
    model: Any = None
    for stage in stages:
        if stage.name == "fcam" and not has_begun(stage, folder):
            break
        model, _ = trained_model(stage, stage.build_model(model), folder)
    parts = {"classifier": model}
    if isinstance(model, FCAM):  # whose classifier may have been trained together with the decoder
        parts = {"classifier": model.classifier, "decoder": model.decoder}
    files = []
    for name, part in parts.items():
        files.append(out / f"{name}.safetensors")
        save_weights(export_weights(part), files[-1])
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    """Export the weights of a run."""
    parser = argparse.ArgumentParser(prog="python -m fcam_jax.cli.export", description=main.__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of the run")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the weight files")
    options = parser.parse_args(arguments)
    try:
        stages = build.recorded_stages(workdir.recorded(options.workdir))
        options.out.mkdir(parents=True, exist_ok=True)
        for path in export(stages, options.workdir, options.out):
            print(path)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: --out={options.out} cannot be written ({error.strerror})")


if __name__ == "__main__":
    main()
