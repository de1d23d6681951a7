"""The networks: encoders by name, heads, the U-Net decoder, F-CAM, and the import of pretrained weights."""

from collections.abc import Callable
from functools import partial

from fcam_jax.component import Registry
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.inception import InceptionV3
from fcam_jax.models.mobilenet import MobileNetV1
from fcam_jax.models.resnet import BasicBlock, Bottleneck, ResNet
from fcam_jax.models.small import Small
from fcam_jax.models.vgg import VGG16

# Every constructor takes the keywords `final_stride`, `dtype` and `rngs`.
ENCODERS: Registry[Callable[..., Encoder]] = Registry(
    "encoder",
    {
        "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
        "resnet34": partial(ResNet, BasicBlock, (3, 4, 6, 3)),
        "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
        "resnet101": partial(ResNet, Bottleneck, (3, 4, 23, 3)),
        "vgg16": VGG16,
        "inceptionv3": InceptionV3,
        "mobilenet_v1_025": partial(MobileNetV1, 0.25),
        "mobilenet_v1_050": partial(MobileNetV1, 0.5),
        "mobilenet_v1_075": partial(MobileNetV1, 0.75),
        "mobilenet_v1_100": partial(MobileNetV1, 1.0),
        "small": Small,
    },
)
