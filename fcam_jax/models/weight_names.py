"""The names and layouts by which files hold the weights of our networks: torchvision's (timm's are the same), those of
the authors' program, and Keras'. One `Names` for every family of files and kind of module.
"""

import dataclasses
from collections.abc import Callable, Hashable

import numpy as np
from flax import nnx

from fcam_jax.models.decoder import Decoder
from fcam_jax.models.heads import WGAP
from fcam_jax.models.inception import InceptionV3
from fcam_jax.models.mobilenet import MobileNetV1
from fcam_jax.models.resnet import ResNet
from fcam_jax.models.small import Small
from fcam_jax.models.vgg import VGG16

Path = tuple[Hashable, ...]
Convert = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Names:
    """How one family of files names and lays out the weights of one kind of module.

    Attributes:
      family: what messages call the files.
      name: from the path of a parameter in the module to the name of its tensor.
      ours: from the tensor's axes to ours (HWIO for convolutions, input x output for linear layers).
      theirs: the inverse.
      ignored: beginnings and ends of names that the module has no place for.
      added: beginnings of names of layers that the published files lack; the module keeps its own values there.
    """

    family: str
    name: Callable[[Path], str]
    ours: Convert
    theirs: Convert
    ignored: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def ignores(self, name: str) -> bool:
        """Whether a tensor of the file is known to have no place in the module."""
        return name.startswith(self.ignored) or name.endswith(self.ignored)


_TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_KERAS_LEAVES = {
    "kernel": "kernel",
    "scale": "gamma",
    "bias": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}
# Positions of the convolutions among torchvision's layers, which count ReLUs and max-pools too; the authors' program
# has removed the last two max-pools from the count.
_VGG_TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_VGG_AUTHORS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 23, 25, 27)


def torch_name(path: Path) -> str:
    """PyTorch's name of a parameter: ``("layer1", 0, "bn1", "mean")`` is ``layer1.0.bn1.running_mean``."""
    *modules, leaf = path
    return ".".join([*map(str, modules), _TORCH_LEAVES[str(leaf)]])


def decoder_name(path: Path) -> str:
    """The authors' name of a decoder's parameter: ``("blocks", 0, "conv1", "bn", "scale")`` is
    ``blocks.0.conv1.1.weight``: convolution and BatchNorm lie in a list there, and so does the last layer.
    """
    places = {"conv": "0", "bn": "1", "head": "segmentation_head.0", "reconstruction": "reconstruction_head.0"}
    return torch_name((*(places.get(str(part), part) for part in path[:-1]), path[-1]))


def keras_name(path: Path) -> str:
    """Keras' name of a parameter of MobileNetV1: ``("blocks", 0, "dw", "kernel")`` is in ``conv_dw_1``."""
    *modules, last = path
    leaf = _KERAS_LEAVES[str(last)]
    if modules[0] != "blocks":
        return f"{modules[0]}/{leaf}"
    kind, _, norm = str(modules[2]).partition("_")
    if kind == "dw" and leaf == "kernel":
        leaf = "depthwise_kernel"
    return f"conv_{kind}_{int(str(modules[1])) + 1}{'_bn' if norm else ''}/{leaf}"


def _vgg_name(positions: tuple[int, ...]) -> Callable[[Path], str]:
    def name(path: Path) -> str:
        if path[0] == "features":
            path = ("features", positions[int(str(path[1]))], *path[2:])
        return torch_name(path)

    return name


def _inception_name(path: Path) -> str:
    # The new convolutions follow a dropout in a list.
    return torch_name((path[0], 1, path[1]) if str(path[0]).startswith("SPG_A3") else path)


def _unchanged(array: np.ndarray) -> np.ndarray:
    return array


def _from_torch(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _to_torch(array: np.ndarray) -> np.ndarray:
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _torch(family: str, name: Callable[[Path], str] = torch_name, *ignored: str, added: tuple[str, ...] = ()) -> Names:
    return Names(family, name, _from_torch, _to_torch, (*ignored, ".num_batches_tracked"), added)


_RECONSTRUCTION = "reconstruction_head."

# The first of a module's families is the one that it is exported by.
NAMES: dict[type[nnx.Module], tuple[Names, ...]] = {
    ResNet: (_torch("torchvision's ResNet"),),
    VGG16: (
        _torch("torchvision's VGG16", _vgg_name(_VGG_TORCHVISION), "classifier.", added=("conv6.", "conv7.")),
        # The authors' module holds its layers twice.
        _torch("the F-CAM program's VGG16", _vgg_name(_VGG_AUTHORS), "full_features."),
    ),
    InceptionV3: (
        _torch("torchvision's InceptionV3", _inception_name, "AuxLogits.", "Mixed_7", added=("SPG_A3_",)),
        _torch("the F-CAM program's InceptionV3", _inception_name, "features."),
    ),
    MobileNetV1: (
        Names("Keras' MobileNetV1", keras_name, _unchanged, _unchanged),
        # Keras 3 calls every kernel so.
        Names("Keras 3's MobileNetV1", lambda path: keras_name(path).replace("depthwise_", ""), _unchanged, _unchanged),
    ),
    Small: (_torch("this program's small encoder"),),
    # The second head is for training alone: it may be in the file or in the module, in both or in neither.
    Decoder: (_torch("the F-CAM program's decoder", decoder_name, _RECONSTRUCTION, added=(_RECONSTRUCTION,)),),
}

_TORCH_HEAD = _torch("the head")
# A 1x1 convolution there, a linear layer here.
_KERAS_HEAD = Names(
    "Keras' head",
    lambda path: f"conv_preds/{path[-1]}",
    lambda array: array.reshape(array.shape[-2:]) if array.ndim == 4 else array,
    lambda array: array.reshape(1, 1, *array.shape) if array.ndim == 2 else array,
)
HEAD_PREFIXES = ("fc.", "conv.", "to_modalities.", "conv_preds/", "first.", "second.", "sides.")
CLASS_BIASES = ("fc.bias", "conv.bias", "to_modalities.bias", "conv_preds/bias")  # ends of names


def head_names(head: nnx.Module, encoder: nnx.Module | None = None) -> Names:
    """Names of a head beside an encoder: PyTorch's, but Keras' for the one that Keras has."""
    return _KERAS_HEAD if isinstance(head, WGAP) and isinstance(encoder, MobileNetV1) else _TORCH_HEAD
