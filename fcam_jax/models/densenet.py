"""DenseNet-BC, with the last average pools removed so that the top map is 1/8 of the image.

The layout and the names are torchvision's. Stages: the stem before its max-pool, then the dense blocks; each but the
first ends in the BatchNorm and ReLU behind its block, so that the maps are what the next layer sees.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from fcam_jax.models.batch_norm import BatchNorm
from fcam_jax.models.encoder import (
    At,
    Encoder,
    Keys,
    Map,
    Strided,
    Subsampling,
    strides_up_to,
    subsamplings,
    unchanged,
)
from fcam_jax.models.layers import conv, max_pool
from fcam_jax.models.pretrained import Pretrained, Sized, torchvision
from fcam_jax.models.weight_names import Path, head_of_torch, of_torch, torch_name


def torchvision_name(path: Path) -> str:
    """torchvision's name of a parameter: ``("denseblock1", 0, "conv1", "kernel")`` is in ``denselayer1``."""
    modules = [f"denselayer{int(str(name)) + 1}" if str(name).isdigit() else name for name in path[:-1]]
    return torch_name(("features", *modules, path[-1]))


def _old_name(path: Path) -> str:
    return re.sub(r"(denselayer\d+\.[a-z]+)([12])", r"\1.\2", torchvision_name(path))


class DenseLayer(nnx.Module):
    """BatchNorm, ReLU and 1x1 convolution to four times as many channels as the 3x3 convolution behind them adds."""

    def __init__(self, channels_in: int, growth: int, *, dilation: int, **of_layers: Any):
        self.norm1 = BatchNorm(channels_in, **of_layers)
        self.conv1 = conv(channels_in, 4 * growth, 1, **of_layers)
        self.norm2 = BatchNorm(4 * growth, **of_layers)
        self.conv2 = conv(4 * growth, growth, 3, dilation=dilation, **of_layers)

    def __call__(self, x: Map, *, train: bool) -> Map:
        """The map with the channels that the layer adds."""
        added = self.conv1(nnx.relu(self.norm1(x, train=train)))
        added = self.conv2(nnx.relu(self.norm2(added, train=train)))
        return jnp.concatenate([x, added], axis=-1)


class Transition(nnx.Module):
    """BatchNorm and ReLU; `halve` is the rest: 1x1 convolution to half the channels and mean over 2x2 windows.

    Where the stride is removed, `dilate` keeps the means, of windows at every place and of values `dilation` apart.
    """

    def __init__(self, channels_in: int, *, sampling: Subsampling, dilate: bool, **of_layers: Any):
        self.norm = BatchNorm(channels_in, **of_layers)
        self.conv = conv(channels_in, channels_in // 2, 1, **of_layers)
        self.sampling, self.pooled = sampling, dilate or sampling.stride > 1

    @property
    def strided(self) -> tuple[Strided, ...]:
        """The mean over windows, as a grid is told of it."""
        return (Strided(1 + self.sampling.dilation, self.sampling.stride, 0),) if self.pooled else ()

    def halve(self, x: Map) -> Map:
        """The map with half the channels."""
        x, (stride, dilation, _) = self.conv(x), self.sampling
        if not self.pooled:
            return x
        if stride > 1:
            return nnx.avg_pool(x, (2, 2), (stride, stride))
        # The last windows hold their first value alone.
        x = (x + jnp.concatenate([x[:, dilation:], x[:, -dilation:]], axis=1)) / 2
        return (x + jnp.concatenate([x[:, :, dilation:], x[:, :, -dilation:]], axis=2)) / 2


class DenseNet(Encoder):
    """DenseNet-BC without its pooling and classification layer; `growth` channels are added by every layer.

    Reference: Huang et al., Densely connected convolutional networks, CVPR 2017, Table 1.
    """

    weight_names = (
        of_torch("torchvision's DenseNet", torchvision_name),  # timm's are the same
        of_torch("torchvision's DenseNet as its files have it", _old_name),
    )
    head_names = head_of_torch("classifier")

    def __init__(
        self,
        depths: Sequence[int],
        *,
        stem: int = 64,
        growth: int = 32,
        final_stride: int = 8,
        dilate: bool = False,
        **of_layers: Any,
    ):
        self.strides = strides_up_to(final_stride)
        samplings = subsamplings(final_stride, dilate)
        self.conv0 = conv(3, stem, 7, stride=2, **of_layers)
        self.norm0 = BatchNorm(stem, **of_layers)
        channels = [stem]
        strided: list[tuple[Strided, ...]] = [(Strided(7, 2, 3),), (Strided(3, 2, 1),)]
        for index, depth in enumerate(depths, start=1):
            first = channels[-1] // 2 if index > 1 else stem
            channels.append(first + depth * growth)
            widths, dilation = range(first, channels[-1], growth), samplings[index].inner
            layers = [DenseLayer(width, growth, dilation=dilation, **of_layers) for width in widths]
            setattr(self, f"denseblock{index}", nnx.List(layers))
            if index < len(depths):
                behind = Transition(channels[-1], sampling=samplings[index + 1], dilate=dilate, **of_layers)
                setattr(self, f"transition{index}", behind)
                strided.append(behind.strided)
        self.norm5 = BatchNorm(channels[-1], **of_layers)
        self.channels, self.strided = tuple(channels), tuple(strided)

    def stage(self, index: int, x: Map, *, train: bool, rng: Keys = None, at: At = unchanged) -> Map:
        if index == 0:
            return at("relu0", nnx.relu(self.norm0(self.conv0(x), train=train)))
        x = max_pool(x, stride=2, padding=1) if index == 1 else getattr(self, f"transition{index - 1}").halve(x)
        for number, layer in enumerate(getattr(self, f"denseblock{index}"), start=1):
            x = at(f"denseblock{index}.denselayer{number}", layer(x, train=train))
        last = index == len(self.channels) - 1
        norm = self.norm5 if last else getattr(self, f"transition{index}").norm
        return at("relu5" if last else f"transition{index}.relu", nnx.relu(norm(x, train=train)))


DENSENETS = {
    "densenet121": Sized(
        DenseNet,
        (6, 12, 24, 16),
        pretrained=(
            *torchvision("DenseNet121", IMAGENET1K_V1="densenet121-a639ec97.pth"),
            Pretrained("timm:densenet121.ra_in1k", "Apache-2.0"),
        ),
    )
}
