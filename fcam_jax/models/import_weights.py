"""Pretrained weights into our networks and back: all that fits is set at once, or every mismatch is listed and nothing
is set.

In: a weight file, or a folder with the parts that the authors' program saves; out: the module's weights replaced, and a
record of what came from where. `export_weights` is the inverse.
"""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import safetensors.numpy

from fcam_jax.errors import InputError
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.encoders import ENCODERS
from fcam_jax.models.heads import WGAP
from fcam_jax.models.weight_files import Weights, read_weights
from fcam_jax.models.weight_names import CLASS_BIASES, HEAD_PREFIXES, Named, Names, named_variables
from fcam_jax.models.weight_parts import Part, classes_of, encoder_and_head, part_of
from fcam_jax.models.weight_plan import Plan, best_plan, closest_encoder, plan
from fcam_jax.runtime.text import listed, printable, shorten

logger = logging.getLogger(__name__)

FINAL_STRIDE = "final_stride"  # what the metadata of exported classifiers call that of the encoder
SUFFIXES = (".safetensors", ".pt", ".pth", ".h5")
# Names, without suffix, of the files of a folder that together hold a classifier or a decoder, and what is put before
# the names of their tensors.
CLASSIFIER_PARTS = {"classifier": "", "encoder": "", "classification_head": ""}
DECODER_PARTS = {"decoder": "", "segmentation_head": "segmentation_head."}

RESEMBLES = 0.5  # share of a network's tensors from which on its mismatches are worth a list


class MisfitError(InputError):
    """Weights that another encoder, or another classification layer, would fit.

    Args:
      message: as of `InputError`.
      remedy: "encoder" or "head": what would have to be another; "layer": what is missing.
      value: the name of the encoder that fits; the number of classes of the layer in the file, None without one.
    """

    def __init__(self, message: str, remedy: str, value: object):
        super().__init__(message)
        self.remedy, self.value = remedy, value


@contextlib.contextmanager
def advising(**advice: str) -> Iterator[None]:
    """Add to a `MisfitError` how the user mends it.

    Args:
      advice: what to do by remedy, with ``{}`` for its value, such as ``encoder="--encoder={}"``.
    """
    try:
        yield
    except MisfitError as error:
        if error.remedy not in advice:
            raise
        raise InputError(f"{error} ({advice[error.remedy].format(error.value)})") from None


@dataclasses.dataclass(frozen=True)
class Imported:
    """What was taken from where, for the record of a run.

    Attributes:
      files: sha256 of every file that was read, by its path.
      family: whose names the files have.
      tensors: how many were set.
      untouched: layers that the files lack and that keep their own values.
      head: what became of the files' classification layer: "kept", "left out" or "absent".
      told: which tensors of the files were taken and which left out, where that was a question.
    """

    files: dict[str, str]
    family: str
    tensors: int
    untouched: tuple[str, ...] = ()
    head: str = "absent"
    told: str = ""


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
    weights, files = read_parts(pathlib.Path(path), CLASSIFIER_PARTS)
    source = f"weights {path}"
    names = _head_names(classifier)
    part = part_of(weights, classifier.encoder)
    body, last = encoder_and_head(part, classifier.encoder, named_variables(classifier.head, names))
    encoder = best_plan(classifier.encoder, body, part.prefix)
    if encoder.problems:
        _refuse_other_network(source, classifier.encoder, encoder, weights)
    _refuse_doubt(source, part)
    head = plan(classifier.head, last, names, part.prefix) if keep_head else None
    of_head = _head_problems(head, last) if head else []
    if of_head and not encoder.problems:
        raise MisfitError(f"{source} {_UNFIT}: {_listed(of_head)}", "head", classes_of(last))
    refuse(source, [*encoder.problems, *of_head])
    tensors = encoder.carry_out() + (head.carry_out() if head else 0)
    fate = "absent" if not last else "kept" if keep_head else "left out"
    return Imported(files, encoder.names.family, tensors, encoder.untouched, fate, _told(source, part))


def count_classes(path: str | pathlib.Path, encoder: Encoder | None = None) -> int | None:
    """Classes of the classification layer in a file, or folder, of a classifier; None where it has no such layer.

    Args:
      path: the file or folder.
      encoder: its encoder, which may be abstract; by default the closest one.

    Raises:
      InputError: the file is absent or damaged.
    """
    weights, _ = read_parts(pathlib.Path(path), CLASSIFIER_PARTS)
    if encoder is None:
        plain = classes_of({name: array for name, array in weights.items() if name.startswith(HEAD_PREFIXES)})
        if plain is not None:
            return plain
        encoder = closest_encoder(weights)[1]  # takes seconds
    return classes_of(encoder_and_head(part_of(weights, encoder), encoder)[1])


def load_decoder(decoder: Decoder, path: str | pathlib.Path) -> Imported:
    """Load a trained F-CAM decoder.

    Args:
      decoder: the decoder.
      path: a file of `export_weights`, or a folder with `decoder.*` and, as the authors' program saves it,
        `segmentation_head.*`.

    Raises:
      InputError: the file is absent, damaged, or of a decoder of another shape.
    """
    weights, files = read_parts(pathlib.Path(path), DECODER_PARTS)
    return dataclasses.replace(set_weights(decoder, weights, f"weights {path}"), files=files)


def set_weights(module: Named, weights: Weights, source: str) -> Imported:
    """Replace all parameters and BatchNorm statistics of an encoder, decoder or head, or none where one does not fit.

    Args:
      module: the module; it may be abstract (from ``nnx.eval_shape``).
      weights: tensors by the names of one of the module's families (`weight_names`).
      source: what messages call the weights, e.g. the file.

    Raises:
      InputError: tensors are missing, unexpected, of another shape or not finite; the message lists every one.
    """
    part = part_of(weights, module)
    _refuse_doubt(source, part)
    found = best_plan(module, part.weights, part.prefix)
    refuse(source, found.problems)
    return Imported({}, found.names.family, found.carry_out(), found.untouched, told=_told(source, part))


def export_weights(module: Encoder | Decoder | Classifier) -> dict[str, np.ndarray]:
    """A module's tensors by the names and in the layout of those who published the network (torchvision, Keras).

    Loading the result gives the same bits back. The layers that localization adds have the authors' names.
    """
    if isinstance(module, Classifier):
        return export_weights(module.encoder) | _export(module.head, _head_names(module))
    return _export(module, module.weight_names[0])


def save_weights(weights: Weights, path: pathlib.Path, metadata: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write tensors as a safetensors file; PyTorch's ``safetensors.torch.load_file`` reads it too.

    Args:
      weights: the tensors by name.
      path: of the file.
      metadata: what it says of itself.

    Raises:
      OSError: the file cannot be written.
    """
    # Not by `save_file`, which reports what the disk refuses by an exception of its own.
    path.write_bytes(safetensors.numpy.save(dict(weights), metadata={"format": "pt", **metadata}))


def read_parts(path: pathlib.Path, parts: Mapping[str, str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors of a file, or of the files of a folder that have the names of the parts; and the files' sha256."""
    if not path.is_dir():
        weights, digest = read_weights(path)
        return dict(weights), {str(path): digest}
    merged: dict[str, np.ndarray] = {}
    files = {}
    for part, prefix in parts.items():
        for file in part_files(path, part):
            weights, files[str(file)] = read_weights(file)
            merged |= {f"{prefix}{name}": array for name, array in weights.items()}
    if not files:
        raise InputError(f"weights {path}: the folder holds no {' or '.join(parts)} file ({', '.join(SUFFIXES)})")
    return merged, files


def part_files(folder: pathlib.Path, part: str) -> list[pathlib.Path]:
    """The file of a part, if there is one; two are refused."""
    found = [folder / f"{part}{suffix}" for suffix in SUFFIXES if (folder / f"{part}{suffix}").is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise InputError(f"weights {folder}: both {names} are there; keep one of them")
    return found


def refuse(source: str, problems: Sequence[str]) -> None:
    """Raise where there are problems."""
    if problems:
        raise InputError(f"{source} {_UNFIT}: {_listed(problems)}")


def unsupported(weights: Weights, name: str, closest: Plan) -> str:
    """What is said of tensors of which even the closest encoder has few."""
    if closest.values:
        resemblance = f"the closest is {name}, {closest.fit:.0%} of whose tensors are there"
    else:
        names = listed([shorten(printable(tensor), 60) for tensor in weights], 3)
        resemblance = f"none of its names is known, as {names}: rename them as torchvision or Keras do if it is one"
    return f"they belong to no supported network ({', '.join(ENCODERS)}); {resemblance}"


_UNFIT = "does not fit this network"
_MOST_PROBLEMS = 8  # that a message lists


def _listed(problems: Sequence[str]) -> str:
    others = [f"and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
    return "; ".join([*(shorten(problem, 150) for problem in problems[:_MOST_PROBLEMS]), *others])


def _refuse_doubt(source: str, part: Part) -> None:
    if part.doubt:
        raise InputError(f"{source}: {part.doubt}")


def _told(source: str, part: Part) -> str:
    if part.told:
        logger.warning("%s: %s", source, part.told)
    return part.told


def _export(module: Named, names: Names) -> dict[str, np.ndarray]:
    variables = named_variables(module, names)
    return {name: np.ascontiguousarray(names.theirs(np.asarray(value[...]))) for name, value in variables.items()}


def _head_names(classifier: Classifier) -> Names:
    """The head's own names, but those of the published network's for the linear layer that it has."""
    published = classifier.encoder.head_names if isinstance(classifier.head, WGAP) else None
    return published or classifier.head.weight_names[0]


def _refuse_other_network(source: str, encoder: Encoder, found: Plan, weights: Weights) -> None:
    """Raise where the file is of another network, whose tensors would only make a long list."""
    name, _, _, closest = closest_encoder(weights, encoder.strides[-1])
    if closest.fit < RESEMBLES:
        raise InputError(f"{source}: {unsupported(weights, name, closest)}")
    if closest.fit > found.fit:
        kind = type(encoder).__name__
        text = f"they belong to another network than this {kind}; the closest supported one is {name}"
        raise MisfitError(f"{source}: {text}", "encoder", name)


def _head_problems(found: Plan, weights: Weights) -> list[str]:
    if not weights:
        return ["it has no classification layer"]
    for name, variable in found.variables.items():
        if name.endswith(CLASS_BIASES) and name in weights and weights[name].shape != variable.shape:
            there, here = len(weights[name]), variable.shape[0]
            return [f"its classification layer has {there} classes, this network's has {here}"]
    return list(found.problems)
