"""What a weight file is, found out by its tensors, and its content by the names under which we export."""

import pathlib

import numpy as np

from fcam_jax.errors import InputError
from fcam_jax.models.import_weights import (
    CLASSIFIER_PARTS,
    DECODER_PARTS,
    RESEMBLES,
    part_files,
    read_parts,
    refuse,
    unsupported,
)
from fcam_jax.models.weight_files import Weights
from fcam_jax.models.weight_names import named_variables
from fcam_jax.models.weight_parts import classes_of, encoder_and_head
from fcam_jax.models.weight_plan import closest_encoder

_OF_DECODERS = "blocks.0.conv1.0.weight"


def identify(source: pathlib.Path, keep_head: bool = True) -> tuple[dict[str, Weights], list[str]]:
    """What a file or folder holds: a classifier, a decoder or, in a folder, both.

    Args:
      source: the weight file, or a folder with the parts that the authors' program saves.
      keep_head: whether the classification layer is kept.

    Returns:
      Tensors by the names of `export_weights`, for "classifier" and "decoder"; and lines that describe them.

    Raises:
      InputError: the source is absent, damaged, or of no network that is supported.
    """
    groups = [CLASSIFIER_PARTS]
    if source.is_dir() and any(part_files(source, part) for part in DECODER_PARTS):
        has_classifier = any(part_files(source, part) for part in CLASSIFIER_PARTS)
        groups = [CLASSIFIER_PARTS, DECODER_PARTS] if has_classifier else [DECODER_PARTS]
    found: dict[str, Weights] = {}
    lines: list[str] = []
    for parts in groups:
        weights, files = read_parts(source, parts)
        lines += [f"{path}: {len(weights)} tensors, sha256 {digest}" for path, digest in files.items()]
        decoder = next((name for name in weights if name.endswith(_OF_DECODERS)), None)
        if decoder is not None:
            found["decoder"], told = _decoder(weights, decoder.removesuffix(_OF_DECODERS))
        else:
            found["classifier"], told = _classifier(source, weights, keep_head)
        lines += told
    return found, lines


def _classifier(source: pathlib.Path, weights: Weights, keep_head: bool) -> tuple[Weights, list[str]]:
    name, encoder, part, found = closest_encoder(weights)
    if found.fit < RESEMBLES:
        raise InputError(f"weights {source}: {unsupported(weights, name, found)}")
    if part.doubt:
        raise InputError(f"weights {source}: {part.doubt}")
    body, last = encoder_and_head(part, encoder)
    refuse(f"weights {source}: the closest supported network is {name}; it", found.problems)
    classes = classes_of(last)
    lines = [f"  {part.told}"] if part.told else []
    lines += [
        f"  {found.names.family}: model.encoder={name}, {len(found.values)} of {len(found.variables)} tensors",
        f"  not in the file, so they would start anew: {', '.join(found.untouched) or 'none'}",
        f"  classification layer: {f'{classes} classes' if classes else 'none'}{'' if keep_head else ' (left out)'}",
    ]
    by_path = zip(found.variables, named_variables(encoder, encoder.weight_names[0]), strict=True)
    renamed = {new: np.ascontiguousarray(body[old]) for old, new in by_path if old in found.values}
    return renamed | dict(last) if keep_head else renamed, lines


def _decoder(weights: Weights, prefix: str) -> tuple[Weights, list[str]]:
    weights = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
    widths = tuple(array.shape[0] for name, array in weights.items() if name.endswith("conv2.0.weight"))
    center = "yes" if any(name.startswith("center.") for name in weights) else "no"
    line = f"  an F-CAM decoder: model.decoder_widths={widths}, model.decoder_center={center}"
    return {name: array for name, array in weights.items() if not name.endswith("num_batches_tracked")}, [line]
