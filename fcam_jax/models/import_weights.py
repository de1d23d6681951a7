"""Pretrained weights by their own names: torchvision's ResNets (also decoder and heads in PyTorch's layout) and Keras'
MobileNetV1. In: a safetensors file or a mapping of arrays; out: the module's weights replaced, all or none of them.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Hashable, Mapping

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.mobilenet import MobileNetV1
from fcam_jax.models.resnet import ResNet

Path = tuple[Hashable, ...]
Weights = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Format:
    """How one family of files names and lays out the weights of one family of networks.

    Attributes:
      name: from the path of a parameter in the module to the name of its tensor.
      layout: from the tensor's axes to ours (HWIO for convolutions, input x output for linear layers).
      ignored: beginnings and ends of names that the module has no place for: classification layer, step counts.
    """

    name: Callable[[Path], str]
    layout: Callable[[np.ndarray], np.ndarray]
    ignored: tuple[str, ...]


def torch_name(path: Path) -> str:
    """PyTorch's name of a parameter: ``("layer1", 0, "bn1", "mean")`` is ``layer1.0.bn1.running_mean``."""
    leaves = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    pair = {"conv": "0", "bn": "1"}  # convolution and BatchNorm of the authors' decoder lie in a list
    *modules, leaf = path
    return ".".join([*(pair.get(str(part), str(part)) for part in modules), leaves[str(leaf)]])


def keras_name(path: Path) -> str:
    """Keras' name of a parameter of MobileNetV1: ``("blocks", 0, "dw", "kernel")`` is in ``conv_dw_1``."""
    leaves = {"kernel": "kernel", "scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
    *modules, last = path
    leaf = leaves[str(last)]
    if modules[0] != "blocks":
        return f"{modules[0]}/{leaf}"
    kind, _, norm = str(modules[2]).partition("_")
    if kind == "dw" and leaf == "kernel":
        leaf = "depthwise_kernel"
    return f"conv_{kind}_{int(str(modules[1])) + 1}{'_bn' if norm else ''}/{leaf}"


def _from_torch(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


TORCH = Format(torch_name, _from_torch, ("fc.", ".num_batches_tracked"))
KERAS = Format(keras_name, lambda array: array, ("conv_preds/",))

# Format of a file and the network it belongs to, by a tensor that only such a file holds.
_RECOGNISED: dict[str, tuple[Format, type[Encoder]]] = {
    "layer1.0.conv1.weight": (TORCH, ResNet),
    "conv_pw_1/kernel": (KERAS, MobileNetV1),
}


def set_weights(module: nnx.Module, weights: Weights, form: Format, source: str) -> None:
    """Replace all parameters and BatchNorm statistics of a module, or none where anything does not fit.

    Args:
      module: an encoder, a decoder or a head.
      weights: tensors by the names of `form`.
      form: the naming and layout, `TORCH` or `KERAS`.
      source: what messages call the weights, e.g. the file.

    Raises:
      InputError: tensors are missing, unexpected, of another shape or not finite; the message lists every one.
    """
    state = nnx.to_flat_state(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat)))
    variables = {form.name(path): variable for path, variable in state}
    laid_out = {name: form.layout(weights[name]) for name in variables if name in weights}
    problems = [f"{name} is missing" for name in variables if name not in weights]
    problems += [
        f"{name} is unexpected"
        for name in weights
        if name not in variables and not name.startswith(form.ignored) and not name.endswith(form.ignored)
    ]
    for name, array in laid_out.items():
        if array.shape != variables[name].shape:
            problems.append(f"{name} has shape {array.shape} instead of {variables[name].shape}")
        elif not np.isfinite(array.astype(np.float32)).all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        raise InputError(f"{source} does not fit this network: {'; '.join(problems)}")
    for name, array in laid_out.items():
        variables[name].set_value(jnp.asarray(array, jnp.float32))


def load_weights(model: Encoder | Classifier, path: str | pathlib.Path) -> str:
    """Load a safetensors file of a pretrained network into an encoder; its classification layer is left out.

    Args:
      model: the encoder, or a classifier around it.
      path: torchvision's or timm's names for a ResNet, Keras' for a MobileNetV1.

    Returns:
      The file's sha256 in hexadecimal, for the record of the run.

    Raises:
      InputError: the file is absent, damaged, of an unknown format or of another network.
    """
    encoder = model.encoder if isinstance(model, Classifier) else model
    weights, digest = _read(pathlib.Path(path))
    found = next((entry for marker, entry in _RECOGNISED.items() if marker in weights), None)
    if found is None:
        raise InputError(f"weights {path}: neither torchvision's ResNet nor Keras' MobileNetV1 names are in it")
    form, network = found
    if not isinstance(encoder, network):
        raise InputError(
            f"weights {path}: they belong to a {network.__name__}, but the encoder is a {type(encoder).__name__}"
        )
    set_weights(encoder, weights, form, f"weights {path}")
    return digest


def _read(path: pathlib.Path) -> tuple[Weights, str]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"weights {path}: cannot be read ({error.strerror})") from error
    try:
        return safetensors.numpy.load_file(path), digest
    except safetensors.SafetensorError as error:
        raise InputError(f"weights {path}: not a whole safetensors file ({error})") from error
