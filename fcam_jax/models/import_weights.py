"""Pretrained weights into our networks and back: all that fits is set at once, or every mismatch is listed and nothing
is set.

In: a weight file, or a folder with the parts that the authors' program saves; out: the module's weights replaced, and a
record of what came from where. `export_weights` is the inverse. As a program, it says what a file is and converts it:

    python -m fcam_jax.models.import_weights SOURCE [--out=DIR] [--drop_head]
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import safetensors.numpy
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.weight_files import Weights, read_weights
from fcam_jax.models.weight_names import CLASS_BIASES, HEAD_PREFIXES, Names, head_names
from fcam_jax.models.weight_plan import Plan, best_plan, closest_encoder, families, named_variables, plan

SUFFIXES = (".safetensors", ".pt", ".pth", ".h5")
# Names, without suffix, of the files of a folder that together hold a classifier or a decoder, and what is put before
# the names of their tensors.
CLASSIFIER_PARTS = {"classifier": "", "encoder": "", "classification_head": ""}
DECODER_PARTS = {"decoder": "", "segmentation_head": "segmentation_head."}

DROP = "config.model.init_head=drop starts with a new one"
_RESEMBLES = 0.5  # share of a network's tensors from which on its mismatches are worth a list


@dataclasses.dataclass(frozen=True)
class Imported:
    """What was taken from where, for the record of a run.

    Attributes:
      files: sha256 of every file that was read, by its path.
      family: whose names the files have.
      tensors: how many were set.
      untouched: layers that the files lack and that keep their own values.
      head: what became of the files' classification layer: "kept", "left out" or "absent".
    """

    files: dict[str, str]
    family: str
    tensors: int
    untouched: tuple[str, ...] = ()
    head: str = "absent"


def load_classifier(classifier: Classifier, path: str | pathlib.Path, *, keep_head: bool) -> Imported:
    """Load a pretrained network into a classifier.

    Args:
      classifier: the classifier.
      path: a file of torchvision, timm, Keras or `export_weights`, or a folder with `classifier.*`, or with `encoder.*`
        and `classification_head.*`.
      keep_head: whether the classification layer is taken too; otherwise the classifier's own stays as it is.

    Raises:
      InputError: the file is absent, damaged, of another network (the closest one is named), or its head has another
        number of classes.
    """
    weights, files = _read(pathlib.Path(path), CLASSIFIER_PARTS)
    source = f"weights {path}"
    body, last = _split(weights)
    encoder = best_plan(classifier.encoder, body)
    if encoder.problems:
        _refuse_other_network(source, classifier.encoder, encoder, body)
    head = plan(classifier.head, last, head_names(classifier.head, classifier.encoder)) if keep_head else None
    _refuse(source, [*encoder.problems, *(_head_problems(head, last) if head else ())])
    tensors = encoder.carry_out() + (head.carry_out() if head else 0)
    fate = "absent" if not last else "kept" if keep_head else "left out"
    return Imported(files, encoder.names.family, tensors, encoder.untouched, fate)


def count_classes(path: str | pathlib.Path) -> int | None:
    """Classes of the classification layer in a file, or folder, of a classifier; None where it has no such layer.

    Raises:
      InputError: the file is absent or damaged.
    """
    return _classes(_split(_read(pathlib.Path(path), CLASSIFIER_PARTS)[0])[1])


def load_decoder(decoder: Decoder, path: str | pathlib.Path) -> Imported:
    """Load a trained F-CAM decoder.

    Args:
      decoder: the decoder.
      path: a file of `export_weights`, or a folder with `decoder.*` and, as the authors' program saves it,
        `segmentation_head.*`.

    Raises:
      InputError: the file is absent, damaged, or of a decoder of another shape.
    """
    weights, files = _read(pathlib.Path(path), DECODER_PARTS)
    return dataclasses.replace(set_weights(decoder, weights, f"weights {path}"), files=files)


def set_weights(module: nnx.Module, weights: Weights, source: str) -> Imported:
    """Replace all parameters and BatchNorm statistics of an encoder, decoder or head, or none where one does not fit.

    Args:
      module: the module; it may be abstract (from ``nnx.eval_shape``).
      weights: tensors by the names of one of the module's families (`weight_names.NAMES`).
      source: what messages call the weights, e.g. the file.

    Raises:
      InputError: tensors are missing, unexpected, of another shape or not finite; the message lists every one.
    """
    found = best_plan(module, weights)
    _refuse(source, found.problems)
    return Imported({}, found.names.family, found.carry_out(), found.untouched)


def export_weights(module: Encoder | Decoder | Classifier) -> dict[str, np.ndarray]:
    """A module's tensors by the names and in the layout of those who published the network (torchvision, Keras).

    Loading the result gives the same bits back. The layers that localization adds have the authors' names.
    """
    if isinstance(module, Classifier):
        return export_weights(module.encoder) | _export(module.head, head_names(module.head, module.encoder))
    return _export(module, families(module)[0])


def save_weights(weights: Weights, path: pathlib.Path) -> None:
    """Write tensors as a safetensors file; PyTorch's ``safetensors.torch.load_file`` reads it too.

    Raises:
      OSError: the file cannot be written.
    """
    # Not by `save_file`, which reports what the disk refuses by an exception of its own.
    path.write_bytes(safetensors.numpy.save(dict(weights), metadata={"format": "pt"}))


def _export(module: nnx.Module, names: Names) -> dict[str, np.ndarray]:
    variables = named_variables(module, names)
    return {name: np.ascontiguousarray(names.theirs(np.asarray(value[...]))) for name, value in variables.items()}


def _read(path: pathlib.Path, parts: Mapping[str, str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors of a file, or of the files of a folder that have the names of the parts; and the files' sha256."""
    if not path.is_dir():
        weights, digest = read_weights(path)
        return dict(weights), {str(path): digest}
    merged: dict[str, np.ndarray] = {}
    files = {}
    for part, prefix in parts.items():
        for file in _files(path, part):
            weights, files[str(file)] = read_weights(file)
            merged |= {f"{prefix}{name}": array for name, array in weights.items()}
    if not files:
        raise InputError(f"weights {path}: the folder holds no {' or '.join(parts)} file ({', '.join(SUFFIXES)})")
    return merged, files


def _files(folder: pathlib.Path, part: str) -> list[pathlib.Path]:
    found = [folder / f"{part}{suffix}" for suffix in SUFFIXES if (folder / f"{part}{suffix}").is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise InputError(f"weights {folder}: both {names} are there; keep one of them")
    return found


def _split(weights: Weights) -> tuple[Weights, Weights]:
    """Tensors of the encoder and of the head."""
    last = {name: array for name, array in weights.items() if name.startswith(HEAD_PREFIXES)}
    return {name: array for name, array in weights.items() if name not in last}, last


def _classes(last: Weights) -> int | None:
    """Classes of a classification layer."""
    return next((array.size for name, array in last.items() if name.endswith(CLASS_BIASES)), None)


def _refuse(source: str, problems: Sequence[str]) -> None:
    if problems:
        raise InputError(f"{source} does not fit this network: {'; '.join(problems)}")


def _refuse_other_network(source: str, encoder: Encoder, found: Plan, weights: Weights) -> None:
    """Raise where the file is of another network, whose tensors would only make a long list."""
    name, _, closest = closest_encoder(weights, encoder.strides[-1])
    if closest.fit < _RESEMBLES:
        raise InputError(f"{source}: {_unsupported(name, closest)}")
    if closest.fit > found.fit:
        raise InputError(
            f"{source}: they belong to another network than this {type(encoder).__name__}; the closest supported one "
            f"is {name}: --config.model.encoder={name}"
        )


def _unsupported(name: str, closest: Plan) -> str:
    resemblance = f"; the closest is {name}, {closest.fit:.0%} of whose tensors are there" if closest.values else ""
    return f"they belong to no supported network ({', '.join(ENCODERS)}){resemblance}"


def _head_problems(found: Plan, weights: Weights) -> list[str]:
    if not weights:
        return [f"it has no classification layer ({DROP})"]
    for name, variable in found.variables.items():
        if name.endswith(CLASS_BIASES) and name in weights and weights[name].shape != variable.shape:
            there, here = len(weights[name]), variable.shape[0]
            return [f"its classification layer has {there} classes, this network's has {here} ({DROP})"]
    return [f"{problem} ({DROP})" for problem in found.problems]


def main(arguments: Sequence[str] | None = None) -> None:
    """Say what a weight file is and which network it fits; convert it to safetensors by the published names."""
    parser = argparse.ArgumentParser(prog="python -m fcam_jax.models.import_weights", description=main.__doc__)
    parser.add_argument("source", type=pathlib.Path, help="weight file, or folder with encoder.pt, decoder.pt, ...")
    parser.add_argument("--out", type=pathlib.Path, help="folder for classifier.safetensors and decoder.safetensors")
    parser.add_argument("--drop_head", action="store_true", help="leave the classification layer out")
    options = parser.parse_args(arguments)
    try:
        found = _identify(options.source, options.drop_head)
    except InputError as error:
        sys.exit(f"error: {error}")
    try:
        for name, weights in found.items() if options.out else ():
            options.out.mkdir(parents=True, exist_ok=True)
            save_weights(weights, options.out / f"{name}.safetensors")
            print(f"wrote {options.out / name}.safetensors ({len(weights)} tensors)")
    except OSError as error:
        sys.exit(f"error: --out={options.out} cannot be written ({error.strerror})")


def _identify(source: pathlib.Path, drop_head: bool) -> dict[str, Weights]:
    """What the source holds, told on standard output: a classifier, a decoder or, in a folder, both."""
    groups = [CLASSIFIER_PARTS]
    if source.is_dir() and any(_files(source, part) for part in DECODER_PARTS):
        has_classifier = any(_files(source, part) for part in CLASSIFIER_PARTS)
        groups = [CLASSIFIER_PARTS, DECODER_PARTS] if has_classifier else [DECODER_PARTS]
    found: dict[str, Weights] = {}
    for parts in groups:
        weights, files = _read(source, parts)
        for path, digest in files.items():
            print(f"{path}: {len(weights)} tensors, sha256 {digest}")
        if "blocks.0.conv1.0.weight" in weights:
            found["decoder"] = _decoder(source, weights)
        else:
            found["classifier"] = _classifier(source, weights, drop_head)
    return found


def _classifier(source: pathlib.Path, weights: Weights, drop_head: bool) -> Weights:
    body, last = _split(weights)
    name, encoder, found = closest_encoder(body)
    if found.fit < _RESEMBLES:
        raise InputError(f"weights {source}: {_unsupported(name, found)}")
    _refuse(f"weights {source}: the closest supported network is {name}; it", found.problems)
    classes = _classes(last)
    print(f"  {found.names.family}: model.encoder={name}, {len(found.values)} of {len(found.variables)} tensors")
    print(f"  not in the file, so they would start anew: {', '.join(found.untouched) or 'none'}")
    print(f"  classification layer: {f'{classes} classes' if classes else 'none'}{' (left out)' * drop_head}")
    by_path = zip(found.variables, named_variables(encoder, families(encoder)[0]), strict=True)
    renamed = {new: np.ascontiguousarray(weights[old]) for old, new in by_path if old in found.values}
    return renamed if drop_head else renamed | dict(last)


def _decoder(source: pathlib.Path, weights: Weights) -> Weights:
    widths = [array.shape[0] for name, array in weights.items() if name.endswith("conv2.0.weight")]
    center = any(name.startswith("center.") for name in weights)
    print(f"  an F-CAM decoder: model.decoder_widths={tuple(widths)}, model.decoder_center={center}")
    return {name: array for name, array in weights.items() if not name.endswith("num_batches_tracked")}


if __name__ == "__main__":
    main()
