"""Pretrained weights into our networks and back: all that fits is set at once, or every mismatch is listed and nothing
is set.

In: a weight file by its path or name, or a folder with the parts that the authors' program saves; out: the module's
weights replaced, and a record of what came from where. `export_weights` is the inverse; `identify` says what a file is.
"""

import contextlib
import dataclasses
import hashlib
import logging
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import jax
import numpy as np
import safetensors.numpy
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.encoders import ENCODERS
from fcam_jax.models.heads import WGAP
from fcam_jax.models.weight_files import Weights, read_weights
from fcam_jax.models.weight_match import Part, Plan, best_plan, classes_of, closest_encoder, encoder_and_head, part_of
from fcam_jax.models.weight_match import plan as plan_of
from fcam_jax.models.weight_names import CLASS_BIASES, HEAD_PREFIXES, Named, Names, named_variables
from fcam_jax.models.weights_by_name import Download, download_of, located, unlike
from fcam_jax.runtime.text import listed, printable, shorten

logger = logging.getLogger(__name__)

DILATE = "dilate"  # and whether it was dilated, where it was
FINAL_STRIDE = "final_stride"  # what the metadata of exported classifiers call that of the encoder
_SUFFIXES = (".safetensors", ".pt", ".pth", ".h5")
# Names, without suffix, of the files of a folder that together hold a classifier or a decoder, and what is put before
# the names of their tensors.
_CLASSIFIER_PARTS = {"classifier": "", "encoder": "", "classification_head": ""}
_DECODER_PARTS = {"decoder": "", "segmentation_head": "segmentation_head."}
_OF_DECODERS = "blocks.0.conv1.0.weight"

_RESEMBLES = 0.5  # share of a network's tensors from which on its mismatches are worth a list
_MOST_PROBLEMS = 8  # that a message lists


class MisfitError(InputError):
    """Weights that another encoder, or another classification layer, would fit.

    Its `remedy` is "encoder" or "head": what would have to be another, with the name of the encoder that fits, or the
    classes of the layer in the file (None without one) as `value`; or "layer": what is missing.
    """

    def __init__(self, message: str, remedy: str, value: object):
        super().__init__(message)
        self.remedy, self.value = remedy, value


@contextlib.contextmanager
def advising(**advice: str) -> Iterator[None]:
    """Add to a `MisfitError` how the user mends it, by its remedy, such as ``encoder="--encoder={}"`` for its value."""
    try:
        yield
    except MisfitError as error:
        if error.remedy not in advice:
            raise
        raise InputError(f"{error} ({advice[error.remedy].format(error.value)})") from None


@dataclasses.dataclass(frozen=True)
class Imported:
    """What was taken from where, for the record of a run."""

    files: dict[str, str]  # sha256 of every file that was read, by its path
    family: str  # whose names the files have
    tensors: int  # how many were set
    untouched: tuple[str, ...] = ()  # layers that the files lack and that keep their own values
    head: str = "absent"  # what became of the files' classification layer: "kept", "left out" or "absent"
    told: str = ""  # which tensors of the files were taken and which left out, where that was a question
    download: Download | None = None  # where the file comes from, if it was given by a name


def load_classifier(classifier: Classifier, path: str | pathlib.Path, *, keep_head: bool) -> Imported:
    """Load a pretrained network into a classifier; `keep_head` takes its classification layer, too.

    It is in a file of torchvision, timm, Keras or `export_weights`, or in a folder with `classifier.*`, or with
    `encoder.*` and `classification_head.*`.

    Raises:
      InputError: the file is absent, damaged, of another network (the closest one is named), or its head has another
        number of classes.
    """
    weights, files = _read_parts(path, _CLASSIFIER_PARTS)
    source, encoder, download = f"weights {path}", classifier.encoder, download_of(path)
    families = _head_names(classifier)
    part = part_of(weights, encoder)
    body, last = encoder_and_head(part, encoder, named_variables(classifier.head, families[-1]))
    plan = best_plan(encoder, body, part.prefix)
    if plan.problems:
        name, _, _, closest = closest_encoder(weights, encoder.strides[-1])
        _refuse_unsupported(source, weights, name, closest)
        # A smaller network of the family may be whole in a larger one's file, so that the rest tells them apart.
        if (closest.fit, -len(closest.problems)) > (plan.fit, -len(plan.problems)):  # a list would only be long
            other = f"another network than this {type(encoder).__name__}; the closest supported one is {name}"
            raise MisfitError(f"{source}: they belong to {other}", "encoder", name)
    heads = (plan_of(classifier.head, last, names, part.prefix) for names in families)
    head = min(heads, key=lambda found: len(found.problems)) if keep_head else None
    of_head = _head_problems(head, last) if head else []
    if of_head and not plan.problems and not part.doubt:
        raise MisfitError(_unfit(source, of_head), "head", classes_of(last))
    _refuse(source, part, [*plan.problems, *of_head])
    tensors = plan.carry_out() + (head.carry_out() if head else 0)
    fate = "absent" if not last else "kept" if keep_head else "left out"
    told = _told(source, part.told, plan.told, unlike(download, encoder) if download else "")
    return Imported(files, plan.names.family, tensors, plan.untouched, fate, told, download)


def count_classes(path: str | pathlib.Path, encoder: Encoder | None = None) -> int | None:
    """Classes of the classification layer in a file, or folder, of a classifier; None where it has no such layer.

    The encoder may be abstract; by default it is the closest one.

    Raises:
      InputError: the file is absent or damaged.
    """
    weights, _ = _read_parts(path, _CLASSIFIER_PARTS)
    if encoder is None:
        plain = classes_of({name: array for name, array in weights.items() if name.startswith(HEAD_PREFIXES)})
        if plain is not None:
            return plain
        encoder = closest_encoder(weights)[1]  # takes seconds
    return classes_of(encoder_and_head(part_of(weights, encoder), encoder)[1])


def load_decoder(decoder: Decoder, path: str | pathlib.Path) -> Imported:
    """Load a trained F-CAM decoder from a file of `export_weights`, or a folder with `decoder.*` and, as the authors'
    program saves it, `segmentation_head.*`.

    Raises:
      InputError: the file is absent, damaged, or of a decoder of another shape.
    """
    weights, files = _read_parts(path, _DECODER_PARTS)
    imported = set_weights(decoder, weights, f"weights {path}")
    return dataclasses.replace(imported, files=files, download=download_of(path))


def set_weights(module: Named, weights: Weights, source: str) -> Imported:
    """Replace all parameters and BatchNorm statistics of an encoder, decoder or head, or none where one does not fit.

    The module may be abstract (from ``nnx.eval_shape``); tensors have the names of one of its families
    (`weight_names`). `source` is what messages call them, such as the file.

    Raises:
      InputError: tensors are missing, unexpected, of another shape or not finite; the message lists every one.
    """
    part = part_of(weights, module)
    plan = best_plan(module, part.weights, part.prefix)
    _refuse(source, part, plan.problems)
    return Imported({}, plan.names.family, plan.carry_out(), plan.untouched, told=_told(source, part.told, plan.told))


def export_weights(module: Encoder | Decoder | Classifier) -> dict[str, np.ndarray]:
    """A module's tensors by the names and in the layout of those who published the network (torchvision, Keras).

    Loading the result gives the same bits back. The layers that localization adds have the authors' names.
    """
    if isinstance(module, Classifier):
        return export_weights(module.encoder) | _export(module.head, _head_names(module)[0])
    return _export(module, module.weight_names[0])


def save_weights(weights: Weights, path: pathlib.Path, metadata: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write tensors by name, and what the file says of itself, as safetensors, which PyTorch's reader takes too.

    Raises:
      OSError: the file cannot be written.
    """
    # Not by `save_file`, which reports what the disk refuses by an exception of its own.
    path.write_bytes(safetensors.numpy.save(dict(weights), metadata={"format": "pt", **metadata}))


def weights_digest(model: nnx.Module) -> str:
    """SHA-256, in hexadecimal digits, over names, types, shapes and values of all variables of a model.

    It tells two models of one structure apart, wherever they are stored.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model))):
        values = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def identify(source: pathlib.Path, keep_head: bool = True) -> tuple[dict[str, Weights], list[str]]:
    """What a file or folder holds: a classifier, a decoder or, in a folder, both; with its classification layer or not.

    Returns:
      Tensors by the names of `export_weights`, for "classifier" and "decoder"; and lines that describe them.

    Raises:
      InputError: the source is absent, damaged, or of no network that is supported.
    """
    groups = [_CLASSIFIER_PARTS, _DECODER_PARTS] if source.is_dir() else [_CLASSIFIER_PARTS]
    there = [parts for parts in groups if any(_part_files(source, part) for part in parts)]
    found: dict[str, Weights] = {}
    lines: list[str] = []
    for parts in there or groups[:1]:
        weights, files = _read_parts(source, parts)
        download = download_of(source)
        lines += [f"{source}: {download.url}, {download.size / 1e6:.1f} MB"] if download else []
        lines += [f"{path}: {len(weights)} tensors, sha256 {digest}" for path, digest in files.items()]
        decoder = next((name for name in weights if name.endswith(_OF_DECODERS)), None)
        if decoder is not None:
            found["decoder"], told = _as_decoder(weights, decoder.removesuffix(_OF_DECODERS))
        else:
            found["classifier"], told = _as_classifier(f"weights {source}", weights, keep_head)
        lines += told
    return found, lines


def _as_classifier(source: str, weights: Weights, keep_head: bool) -> tuple[Weights, list[str]]:
    name, encoder, part, plan = closest_encoder(weights)
    _refuse_unsupported(source, weights, name, plan)
    _refuse(source, part, plan.problems, f": the closest supported network is {name}; it")
    body, last = encoder_and_head(part, encoder)
    classes = classes_of(last)
    lines = [f"  {told}" for told in (part.told, plan.told) if told]
    lines += [
        f"  {plan.names.family}: model.encoder={name}, {len(plan.values)} of {len(plan.variables)} tensors",
        f"  not in the file, so they would start anew: {', '.join(plan.untouched) or 'none'}",
        f"  classification layer: {f'{classes} classes' if classes else 'none'}{'' if keep_head else ' (left out)'}",
    ]
    by_path = zip(plan.variables, named_variables(encoder, encoder.weight_names[0]), strict=True)
    renamed = {new: np.ascontiguousarray(body[old]) for old, new in by_path if old in plan.values}
    return renamed | _as_published(last, encoder) if keep_head else renamed, lines


def _as_published(last: Weights, encoder: Encoder) -> dict[str, np.ndarray]:
    """A linear classification layer by the names that a network is published with; others keep theirs."""
    (plain,), names = WGAP.weight_names, encoder.head_names
    to = {plain.name(path): path for path in (("fc", "kernel"), ("fc", "bias"))}
    if names is None or not last.keys() <= to.keys():
        return dict(last)
    return {names.name(to[name]): np.ascontiguousarray(names.theirs(plain.ours(a))) for name, a in last.items()}


def _as_decoder(weights: Weights, prefix: str) -> tuple[Weights, list[str]]:
    weights = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
    widths = tuple(array.shape[0] for name, array in weights.items() if name.endswith("conv2.0.weight"))
    center = "yes" if any(name.startswith("center.") for name in weights) else "no"
    line = f"  an F-CAM decoder: model.decoder_widths={widths}, model.decoder_center={center}"
    return {name: array for name, array in weights.items() if not name.endswith("num_batches_tracked")}, [line]


def _read_parts(given: str | pathlib.Path, parts: Mapping[str, str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors of a file, or of the files of a folder that have the names of the parts; and the files' sha256."""
    path = located(given)
    if not path.is_dir():
        weights, digest = read_weights(path)
        return dict(weights), {str(path): digest}
    merged: dict[str, np.ndarray] = {}
    files = {}
    for part, prefix in parts.items():
        for file in _part_files(path, part):
            weights, files[str(file)] = read_weights(file)
            merged |= {f"{prefix}{name}": array for name, array in weights.items()}
    if not files:
        raise InputError(f"weights {path}: the folder holds no {' or '.join(parts)} file ({', '.join(_SUFFIXES)})")
    return merged, files


def _part_files(folder: pathlib.Path, part: str) -> list[pathlib.Path]:
    """The file of a part, if there is one; two are refused."""
    found = [folder / f"{part}{suffix}" for suffix in _SUFFIXES if (folder / f"{part}{suffix}").is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise InputError(f"weights {folder}: both {names} are there; keep one of them")
    return found


def _refuse(source: str, part: Part, problems: Sequence[str], of: str = "") -> None:
    if part.doubt:
        raise InputError(f"{source}: {part.doubt}")
    if problems:
        raise InputError(_unfit(f"{source}{of}", problems))


def _told(source: str, *lines: str) -> str:
    for line in filter(None, lines):
        logger.warning("%s: %s", source, line)
    return "; ".join(filter(None, lines))


def _unfit(source: str, problems: Sequence[str]) -> str:
    others = [f"and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
    shown = "; ".join([*(shorten(problem, 150) for problem in problems[:_MOST_PROBLEMS]), *others])
    return f"{source} does not fit this network: {shown}"


def _refuse_unsupported(source: str, weights: Weights, name: str, closest: Plan) -> None:
    """Raise where even the closest encoder has few of the tensors."""
    if closest.fit >= _RESEMBLES:
        return
    if closest.values:
        resemblance = f"the closest is {name}, {closest.fit:.0%} of whose tensors are there"
    else:
        names = listed([shorten(printable(tensor), 60) for tensor in weights], 3)
        resemblance = f"none of its names is known, as {names}: rename them as torchvision or Keras do if it is one"
    raise InputError(f"{source}: they belong to no supported network ({', '.join(ENCODERS)}); {resemblance}")


def _export(module: Named, names: Names) -> dict[str, np.ndarray]:
    variables = named_variables(module, names)
    return {name: np.ascontiguousarray(names.theirs(np.asarray(value[...]))) for name, value in variables.items()}


def _head_names(classifier: Classifier) -> tuple[Names, ...]:
    """The published network's names for the linear layer that it has, if there are any, then the head's own."""
    published = classifier.encoder.head_names if isinstance(classifier.head, WGAP) else None
    return (*([published] if published else []), classifier.head.weight_names[0])


def _head_problems(plan: Plan, weights: Weights) -> list[str]:
    if not weights:
        return ["it has no classification layer"]
    for name, variable in plan.variables.items():
        if name.endswith(CLASS_BIASES) and name in weights and weights[name].shape != variable.shape:
            there, here = len(weights[name]), variable.shape[0]
            return [f"its classification layer has {there} classes, this network's has {here}"]
    return list(plan.problems)
