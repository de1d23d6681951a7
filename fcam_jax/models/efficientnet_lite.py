"""EfficientNet-Lite 0 to 4: EfficientNet with ReLU6 and without squeeze-and-excitation."""

import math
from typing import Any

from fcam_jax.models.inverted_residual import Group, InvertedResiduals
from fcam_jax.models.pretrained import Pretrained, Sized
from fcam_jax.models.weight_names import of_torch

_GROUPS = (
    Group(3, 16, 1),
    Group(3, 24, 2),
    Group(5, 40, 2),
    Group(3, 80, 3),
    Group(5, 112, 3),
    Group(5, 192, 4),
    Group(3, 320, 1),
)

# As for MobileNetV1 (`models/mobilenet.py`): CAMs of birds and of their mirror images, by Lite0's ImageNet weights at
# 224 pixels, fit best at 2, -5 and -5.5 pixels off an even grid at final strides of 32, 16 and 8; this gives 3.1, -4.9
# and -5.7.
_SHIFT = -0.4


class EfficientNetLite(InvertedResiduals):
    """EfficientNet-Lite of a width and a depth, without its pooling and classification layer; input x / 127.5 - 1.

    Layout as TensorFlow's: padding ``SAME``, BatchNorm with epsilon 1e-3. Stem and top are not scaled by the width,
    nor the first and last group by the depth.

    Differs from: timm's `efficientnet_lite0` without `tf_`, which has the same names, pads evenly and normalises as
      torchvision does.

    Reference: Tan and Le, EfficientNet, ICML 2019, Table 1; tensorflow/tpu, models/official/efficientnet/lite.
    """

    mean = std = (127.5, 127.5, 127.5)
    weight_names = (of_torch("timm's tf_efficientnet_lite", depthwise=True),)

    def __init__(self, width: float, depth: float, *, final_stride: int = 8, dilate: bool = False, **of_layers: Any):
        ends = 0, len(_GROUPS) - 1
        groups = [
            Group(side, rounded(channels * width), repeats if number in ends else math.ceil(repeats * depth))
            for number, (side, channels, repeats) in enumerate(_GROUPS)
        ]
        of_network: dict[str, Any] = {"padding": "SAME", "epsilon": 1e-3, "shift": _SHIFT, **of_layers}
        super().__init__(groups, final_stride=final_stride, dilate=dilate, **of_network)


def rounded(channels: float) -> int:
    """Scaled channels as the nearest multiple of 8, or the next one where that is less than 90 % of them."""
    multiple = max(8, int(channels + 4) // 8 * 8)
    return multiple if multiple >= 0.9 * channels else multiple + 8


def _sized(number: int, width: float, depth: float, side: int) -> Sized:
    published = (Pretrained(f"timm:tf_efficientnet_lite{number}.in1k", "Apache-2.0", side),)
    return Sized(EfficientNetLite, width, depth, pretrained=published)


EFFICIENTNET_LITES = {
    "efficientnet_lite0": _sized(0, 1.0, 1.0, 224),
    "efficientnet_lite1": _sized(1, 1.0, 1.1, 240),
    "efficientnet_lite2": _sized(2, 1.1, 1.2, 260),
    "efficientnet_lite3": _sized(3, 1.2, 1.4, 300),
    "efficientnet_lite4": _sized(4, 1.4, 1.8, 380),
}
