"""Weights out of a run's best checkpoints, for other programs: safetensors files by torchvision's or Keras' names."""

import pathlib
from collections.abc import Sequence
from typing import Any

from fcam_jax.models.fcam import FCAM
from fcam_jax.models.import_weights import DILATE, FINAL_STRIDE, export_weights, save_weights
from fcam_jax.runs.class_names import names_of_run, save_names
from fcam_jax.runs.folder import RunFolder, recorded
from fcam_jax.runs.plan import Stage


def export(stages: Sequence[Stage], folder: pathlib.Path, out: pathlib.Path) -> list[pathlib.Path]:
    """Write the best model of a run's last trained stage, whose classifier is that of the first unless both were
    trained; returns the files written.

    Raises:
      InputError: the classifier is not trained, or a checkpoint cannot be used.
    """
    model: Any = None
    with RunFolder(folder) as run:
        last = run.last_trained([stage.name for stage in stages])
        for stage in stages:
            model, _ = run.stage(stage.name).trained(stage.shapes(model), stage.method)
            if stage.name == last:
                break
    parts = {"classifier": model}
    if isinstance(model, FCAM):  # whose classifier may have been trained together with the decoder
        parts = {"classifier": model.classifier, "decoder": model.decoder}
    files = []
    for name, part in parts.items():
        files.append(out / f"{name}.safetensors")
        told = {}
        if name == "classifier":
            dilate = {DILATE: "True"} if recorded(folder)["model"]["dilate"] else {}
            told = {FINAL_STRIDE: str(part.encoder.strides[-1])} | dilate
        save_weights(export_weights(part), files[-1], told)
    save_names(out, names_of_run(folder))
    return files
