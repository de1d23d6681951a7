"""MobileNetV2, with the last subsamplings removed so that the top map is 1/8 of the image."""

import itertools
from typing import Any

from fcam_jax.models.inverted_residual import Group, InvertedResiduals
from fcam_jax.models.pretrained import Pretrained, torchvision
from fcam_jax.models.weight_names import Path, of_torch, torch_name

_CHANNELS = (16, 24, 32, 64, 96, 160, 320)
_DEPTHS = (1, 2, 3, 4, 3, 3, 1)
_FIRST = (0, *itertools.accumulate(_DEPTHS))  # position of every group's first block among all
# A block's layers in torchvision's list, where those before ReLU6 are lists, too; the first group has the second kind.
_EXPANDED = {"conv_pw": (0, 0), "bn1": (0, 1), "conv_dw": (1, 0), "bn2": (1, 1), "conv_pwl": (2,), "bn3": (3,)}
_PLAIN = {"conv_dw": (0, 0), "bn1": (0, 1), "conv_pw": (1,), "bn2": (2,)}
_ENDS = {"conv_stem": (0, 0), "bn1": (0, 1), "conv_head": (_FIRST[-1] + 1, 0), "bn2": (_FIRST[-1] + 1, 1)}


def torchvision_name(path: Path) -> str:
    """torchvision's name of a parameter: ``("blocks", 1, 0, "conv_pw", "kernel")`` is in ``features.2.conv.0.0``."""
    *modules, leaf = path
    if modules[0] != "blocks":
        return torch_name(("features", *_ENDS[str(modules[0])], leaf))
    group, position = int(str(modules[1])), int(str(modules[2]))
    layers = _EXPANDED if group else _PLAIN
    return torch_name(("features", 1 + _FIRST[group] + position, "conv", *layers[str(modules[3])], leaf))


class MobileNetV2(InvertedResiduals):
    """MobileNetV2 of width 1, without its pooling and classification layer.

    Reference: Sandler et al., MobileNetV2, CVPR 2018, Table 2.
    """

    pretrained = (
        *torchvision(
            "MobileNet_V2", IMAGENET1K_V2="mobilenet_v2-7ebf99e0.pth", IMAGENET1K_V1="mobilenet_v2-b0353104.pth"
        ),
        Pretrained("timm:mobilenetv2_100.ra_in1k", "Apache-2.0"),
    )
    weight_names = (
        of_torch("timm's mobilenetv2_100", depthwise=True),
        of_torch("torchvision's MobileNetV2", torchvision_name, depthwise=True),
    )

    def __init__(self, *, final_stride: int = 8, dilate: bool = False, **of_layers: Any):
        groups = [Group(3, channels, depth) for channels, depth in zip(_CHANNELS, _DEPTHS, strict=True)]
        super().__init__(groups, padding=None, epsilon=1e-5, final_stride=final_stride, dilate=dilate, **of_layers)
