"""The encoders by name. A new one is a class and a line."""

from collections.abc import Callable
from typing import Any

from fcam_jax.component import Registry, defaults_of
from fcam_jax.errors import InputError
from fcam_jax.models.convnext import CONVNEXTS
from fcam_jax.models.densenet import DENSENETS
from fcam_jax.models.efficientnet_lite import EFFICIENTNET_LITES
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.inception import InceptionV3
from fcam_jax.models.mobilenet import MOBILENETS
from fcam_jax.models.mobilenet_v2 import MobileNetV2
from fcam_jax.models.resnet import RESNETS, Small
from fcam_jax.models.vgg import VGG16
from fcam_jax.models.vit import VITS

_FINE_STRIDE = 8  # of a constructor that says nothing else: that of F-CAM, section 4.1

ENCODERS: Registry[Callable[..., Encoder]] = Registry(
    "encoder",
    {
        **RESNETS,
        **DENSENETS,
        "vgg16": VGG16,
        "inceptionv3": InceptionV3,
        **MOBILENETS,
        **CONVNEXTS,
        "mobilenet_v2": MobileNetV2,
        **EFFICIENTNET_LITES,
        **VITS,
        "small": Small,
    },
)


def dilated(build: Callable[..., Encoder], dilate: bool) -> dict[str, Any]:
    """The keyword `dilate` for what builds an encoder; none where it has no such choice.

    Raises:
      InputError: it has none, but is asked for it.
    """
    if "dilate" in defaults_of(build):
        return {"dilate": dilate}
    if dilate:
        raise InputError("dilate is True; this encoder has no strides whose removal dilates layers: leave it False")
    return {}


def published_stride(build: Callable[..., Encoder]) -> int:
    """The final stride at which the weights of what a constructor builds are published."""
    return int(_network(build).published_stride)


def default_stride(build: Callable[..., Encoder]) -> int:
    """The final stride where nobody names one: the constructor's default, or the patch of a transformer."""
    return defaults_of(build).get("final_stride", _FINE_STRIDE) or published_stride(build)


def default_cam(build: Callable[..., Encoder]) -> str:
    """The name of the CAM where nobody names one."""
    return str(_network(build).default_cam)


def of_kind(build: Callable[..., Encoder], other: Callable[..., Encoder]) -> bool:
    """Whether what a constructor builds is of the class of what the other builds, such as a transformer."""
    kinds = _network(build), _network(other)
    return all(isinstance(kind, type) for kind in kinds) and issubclass(*kinds)


def _network(build: Callable[..., Encoder]) -> Any:
    """The class of what a constructor builds."""
    return getattr(build, "func", build)
