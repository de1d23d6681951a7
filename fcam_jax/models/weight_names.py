"""What files call the weights of a network, and how they lay them out: one `Names` for every family of files.

A module lists its own families in `weight_names`; here is what they are made of.
"""

import dataclasses
from collections.abc import Callable, Hashable
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from flax import nnx

Path = tuple[Hashable, ...]
Convert = Callable[[np.ndarray], np.ndarray]

# Beginnings of the names of classification layers: torchvision's, the authors', Keras', and those of all other heads.
HEAD_PREFIXES = ("fc.", "conv.", "to_modalities.", "conv_preds/", "head.")
CLASS_BIASES = ("fc.bias", "conv.bias", "to_modalities.bias", "conv_preds/bias")  # ends of names: a value a class

_TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


@dataclasses.dataclass(frozen=True)
class Names:
    """How one family of files names and lays out the weights of one kind of module.

    Axes are ours after `ours`: HWIO for convolutions, input x output for linear layers.
    """

    family: str  # what messages call the files
    name: Callable[[Path], str]  # from the path of a parameter in the module to the name of its tensor
    ours: Convert = lambda array: array
    theirs: Convert = lambda array: array  # the inverse
    ignored: tuple[str, ...] = ()  # beginnings and ends of names that the module has no place for
    added: tuple[str, ...] = ()  # beginnings of names that the files lack; the module keeps its own values there


@runtime_checkable
class Named(Protocol):
    """A module that weight files can fill, with the families of its files; it is exported by the first."""

    weight_names: ClassVar[tuple[Names, ...]]


def named_variables(module: Named, names: Names) -> dict[str, nnx.Variable]:
    """Parameters and BatchNorm statistics of a module by their names in a family."""
    state = nnx.to_flat_state(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat)))
    return {names.name(path): variable for path, variable in state}


def torch_name(path: Path) -> str:
    """PyTorch's name of a parameter: ``("layer1", 0, "bn1", "mean")`` is ``layer1.0.bn1.running_mean``."""
    *modules, leaf = path
    return ".".join([*map(str, modules), _TORCH_LEAVES.get(str(leaf), str(leaf))])


def of_torch(
    family: str,
    name: Callable[[Path], str] = torch_name,
    *ignored: str,
    added: tuple[str, ...] = (),
    depthwise: bool = False,
) -> Names:
    """A family of PyTorch's files, whose kernels are OIHW and output x input.

    With `depthwise` kernels of one input channel are those of `DepthwiseConv`, which are HWO1 here.
    """
    ours, theirs = (_from_depthwise, _to_depthwise) if depthwise else (_from_torch, _to_torch)
    return Names(family, name, ours, theirs, (*ignored, ".num_batches_tracked"), added)


def head_of_torch(layer: str) -> Names:
    """The linear classification layer of a published network, by its name in PyTorch's files."""
    return of_torch(f"the layer {layer!r}", lambda path: torch_name((layer, path[-1])))


def _from_torch(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else _transposed(array)


def _to_torch(array: np.ndarray) -> np.ndarray:
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else _transposed(array)


def _from_depthwise(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 0, 1) if array.ndim == 4 and array.shape[1] == 1 else _from_torch(array)


def _to_depthwise(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 0, 1) if array.ndim == 4 and array.shape[3] == 1 else _to_torch(array)


def _transposed(array: np.ndarray) -> np.ndarray:
    return array.T if array.ndim == 2 else array
