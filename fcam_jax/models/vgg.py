"""VGG16 without its fully connected layers and with new convolutions on top, as localization uses it.

Stages end just before each max-pool; the 4th and 5th max-pool are removed for top maps of 1/8 of the image.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx

from fcam_jax.models.encoder import At, Encoder, Keys, Map, Strided, strides_up_to, subsamplings, unchanged
from fcam_jax.models.layers import conv, relu
from fcam_jax.models.pretrained import torchvision
from fcam_jax.models.weight_names import Path, of_torch, torch_name

# Channels of the 3x3 convolutions between the network's own max-pools.
_GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# Positions of the convolutions among torchvision's layers, which count ReLUs and max-pools too; the authors' program
# has removed the last two max-pools from the count.
_TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_AUTHORS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 23, 25, 27)
_PLACES = tuple(f"conv{group}_{n}" for group, widths in enumerate(_GROUPS, 1) for n in range(1, len(widths) + 1))


def _name(positions: Sequence[int], path: Path) -> str:
    return torch_name(("features", positions[int(str(path[1]))], *path[2:]) if path[0] == "features" else path)


class VGG16(Encoder):
    """VGG16 (configuration D, no BatchNorm) up to conv5_3, then new 3x3 convolutions, `conv6` and so on.

    A max-pool is kept for every halving up to `final_stride`: three for 8, four for 16, all five for 32; with `dilate`
    the others stay, too, at stride 1. Then, of an image whose sides they halve evenly, cell i of the network without
    one of the strides is cell 2i here, and 4i + 1 of that without two. `top` are the channels of the new convolutions;
    there may be none. A negative value x is `slope` x behind every activation.

    Reference: Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015, Table 1; F-CAM, section 4.1.
    """

    for_methods = ("top", "slope")
    decoder_center = True
    pretrained = torchvision("VGG16", IMAGENET1K_V1="vgg16-397923af.pth")
    weight_names = (
        of_torch("torchvision's VGG16", partial(_name, _TORCHVISION), "classifier.", added=("conv6.", "conv7.")),
        # The authors' module holds its layers twice.
        of_torch("the F-CAM program's VGG16", partial(_name, _AUTHORS), "full_features."),
    )

    def __init__(
        self,
        *,
        final_stride: int = 8,
        dilate: bool = False,
        top: Sequence[int] = (1024,),
        slope: float = 0.0,
        **of_layers: Any,
    ):
        self.slope = slope
        pools, sampled = len(set(strides_up_to(final_stride))), subsamplings(final_stride, dilate)
        ends = [len(group) for group in _GROUPS[:pools]]
        # Without their pools the last groups belong to one stage; with all of them the top is a stage of its own.
        self.stage_lengths = (*ends, len(_PLACES) - sum(ends))
        self.strides = tuple(2**index for index in range(pools + 1))
        # Dilations of the pools at stride 1, by how many convolutions stand before them.
        ends_of_groups = itertools.accumulate(map(len, _GROUPS))
        removed = {end: one.dilation for end, one in zip(ends_of_groups, sampled, strict=True) if one.stride == 1}
        self.dense_pools = removed if dilate else {}
        last = tuple(Strided(1 + dilation, 1, dilation // 2) for dilation in self.dense_pools.values())
        self.strided = ((), *[(Strided(2, 2, 0),)] * (pools - 1), (Strided(2, 2, 0), *last))
        widths = (3, *sum(_GROUPS, start=()), *top)
        self.channels = (*(group[-1] for group in _GROUPS[:pools]), widths[-1])
        rates = (1, *(one.inner for one in sampled))
        dilations = [rate for group, rate in zip((*_GROUPS, top), rates, strict=True) for _ in group]
        convolutions = [
            conv(ins, outs, 3, dilation=dilation, bias=True, **of_layers)
            for (ins, outs), dilation in zip(itertools.pairwise(widths), dilations, strict=True)
        ]
        self.features = nnx.List(convolutions[: len(_PLACES)])
        self.new_layers = tuple(f"conv{number}" for number in range(6, 6 + len(top)))
        for name, layer in zip(self.new_layers, convolutions[len(_PLACES) :], strict=True):
            setattr(self, name, layer)

    def stage(self, index: int, x: Map, *, train: bool, rng: Keys = None, at: At = unchanged) -> Map:
        if index > 0:
            x = at(f"pool{index}", nnx.max_pool(x, (2, 2), (2, 2)))
        first = sum(self.stage_lengths[:index])
        for position in range(first, first + self.stage_lengths[index]):
            x = at(_PLACES[position], self._activated(self.features[position](x)))
            if dilation := self.dense_pools.get(position + 1):
                x = at(f"pool{_PLACES[position][4]}", _pooled_everywhere(x, dilation))
        for name in self.new_layers if index == len(self.channels) - 1 else ():
            x = at(name, self._activated(getattr(self, name)(x)))
        return x

    def _activated(self, x: Map) -> Map:
        return nnx.leaky_relu(x, self.slope) if self.slope else relu(x)


def _pooled_everywhere(x: Map, dilation: int) -> Map:
    """Maximum over 2x2 windows of values `dilation` apart at every place; what lies beyond the map never wins."""
    pads = (dilation // 2, dilation - dilation // 2)
    padded = jnp.pad(x, [(0, 0), pads, pads, (0, 0)], constant_values=-jnp.inf)
    rows = jnp.maximum(padded[:, :-dilation], padded[:, dilation:])
    return jnp.maximum(rows[:, :, :-dilation], rows[:, :, dilation:])
