"""MobileNetV1 of any width, with the last subsamplings removed so that the top map is 1/8 of the image.

The layout is Keras', so that its ImageNet weights fit: ``SAME`` padding, BatchNorm with epsilon 1e-3, ReLU6.
Stages end after the pointwise convolutions 1, 3, 5, 11 and 13.
"""

from functools import partial
from typing import Any

from flax import nnx

from fcam_jax.models.batch_norm import BatchNorm
from fcam_jax.models.depthwise import DepthwiseConv
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
from fcam_jax.models.layers import conv
from fcam_jax.models.weight_names import Names, Path

_EPSILON = 1e-3
# Where training puts the weight of the strided kernels, in cells of their input: it makes up for padding that lies on
# one side of images with even sides. Measured: the CAMs of birds and of their mirror images fit best at 5, -3 and -4
# pixels off an even grid at final strides of 32, 16 and 8, and -1/3 gives 5.2, -2.8 and -4.2 (docs/history.md).
_SHIFT = -1 / 3
# Channels of the pointwise convolutions of every stage at width 1; the first block of a stage carries its stride.
_STAGES = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))

_KERAS_LEAVES = {"kernel": "kernel", "scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


def keras_name(path: Path) -> str:
    """Keras' name of a parameter: ``("blocks", 0, "dw", "kernel")`` is in ``conv_dw_1``."""
    *modules, last = path
    leaf = _KERAS_LEAVES[str(last)]
    if modules[0] != "blocks":
        return f"{modules[0]}/{leaf}"
    kind, _, norm = str(modules[2]).partition("_")
    if kind == "dw" and leaf == "kernel":
        leaf = "depthwise_kernel"
    return f"conv_{kind}_{int(str(modules[1])) + 1}{'_bn' if norm else ''}/{leaf}"


class SeparableBlock(nnx.Module):
    """3x3 depthwise and 1x1 pointwise convolution, each with BatchNorm and ReLU6."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, dilation: int, **of_layers: Any):
        self.dw = DepthwiseConv(channels_in, stride=stride, dilation=dilation, padding="SAME", **of_layers)
        self.dw_bn = BatchNorm(channels_in, epsilon=_EPSILON, **of_layers)
        self.pw = conv(channels_in, channels_out, 1, **of_layers)
        self.pw_bn = BatchNorm(channels_out, epsilon=_EPSILON, **of_layers)

    def __call__(self, x: Map, *, train: bool) -> Map:
        """Apply both convolutions."""
        x = nnx.relu6(self.dw_bn(self.dw(x), train=train))
        return nnx.relu6(self.pw_bn(self.pw(x), train=train))


class MobileNetV1(Encoder):
    """MobileNetV1 without its pooling and classification layer; input x / 127.5 - 1.

    With `dilate`, of a stage whose map had n cells along an axis before a stride that is removed, the strided network's
    cell i is cell 2i + 1 if n is even and 2i if it is odd: the padding of stride 1 is symmetric, that of stride 2 not.

    Reference: Howard et al., MobileNets, arXiv 1704.04861, Table 1.
    """

    mean = std = (127.5, 127.5, 127.5)
    weight_names = (
        Names("Keras' MobileNetV1", keras_name),
        # Keras 3 calls every kernel so.
        Names("Keras 3's MobileNetV1", lambda path: keras_name(path).replace("depthwise_", "")),
    )
    # A 1x1 convolution there, a linear layer here.
    head_names = Names(
        "Keras' head",
        lambda path: f"conv_preds/{path[-1]}",
        lambda array: array[0, 0] if array.ndim == 4 else array,
        lambda array: array.reshape(1, 1, *array.shape) if array.ndim == 2 else array,
    )

    def __init__(self, width: float, *, final_stride: int = 8, dilate: bool = False, **of_layers: Any):
        stem = int(32 * width)
        self.channels = tuple(int(blocks[-1] * width) for blocks in _STAGES)
        self.strides = strides_up_to(final_stride)
        sampled = subsamplings(final_stride, dilate)
        self.strided = tuple((_strided(one),) for one in sampled)
        self.conv1 = conv(3, stem, 3, stride=2, padding="SAME", **of_layers)
        self.conv1_bn = BatchNorm(stem, epsilon=_EPSILON, **of_layers)

        blocks, channels = [], stem
        for index, (stage, (stride, first, inner)) in enumerate(zip(_STAGES, sampled, strict=True)):
            for position, filters in enumerate(int(filters * width) for filters in stage):
                carries = index > 0 and position == 0  # that of the first stage is before its block
                of_block = {"stride": stride, "dilation": first} if carries else {"stride": 1, "dilation": inner}
                blocks.append(SeparableBlock(channels, filters, **of_block, **of_layers))
                channels = filters
        self.blocks = nnx.List(blocks)

    def stage(self, index: int, x: Map, *, train: bool, rng: Keys = None, at: At = unchanged) -> Map:
        if index == 0:
            x = nnx.relu6(self.conv1_bn(self.conv1(x), train=train))
        first = sum(map(len, _STAGES[:index]))
        for position in range(first, first + len(_STAGES[index])):
            x = at(f"blocks.{position}", self.blocks[position](x, train=train))
        return x


def _strided(layer: Subsampling) -> Strided:
    padding = None if layer.stride == 2 else layer.dilation
    return Strided(2 * layer.dilation + 1, layer.stride, padding, layer.dilation * _SHIFT)


MOBILENETS = {f"mobilenet_v1_{percent:03d}": partial(MobileNetV1, percent / 100) for percent in (25, 50, 75, 100)}
