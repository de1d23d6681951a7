"""The encoders by name. A new one is a class and a line."""

from collections.abc import Callable

from fcam_jax.component import Registry
from fcam_jax.models.convnext import CONVNEXTS
from fcam_jax.models.efficientnet_lite import EFFICIENTNET_LITES
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.inception import InceptionV3
from fcam_jax.models.mobilenet import MOBILENETS
from fcam_jax.models.mobilenet_v2 import MobileNetV2
from fcam_jax.models.resnet import RESNETS, Small
from fcam_jax.models.vgg import VGG16
from fcam_jax.models.vit import VITS

ENCODERS: Registry[Callable[..., Encoder]] = Registry(
    "encoder",
    {
        **RESNETS,
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
