"""Networks of inverted residuals: MobileNetV2 and what is made of it. They differ in a table, in epsilon and padding.

Layers have timm's names, so that its weights fit without translation.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flax import nnx

from fcam_jax.models.batch_norm import BatchNorm
from fcam_jax.models.depthwise import DepthwiseConv
from fcam_jax.models.encoder import At, Encoder, Keys, Map, Strided, strides_up_to, subsamplings, unchanged
from fcam_jax.models.layers import Padding, conv
from fcam_jax.models.weight_names import head_of_torch

_STEM, _TOP, _EXPANSION = 32, 1280, 6
_STAGES = (0, 1, 2, 3, 3, 4, 4)  # of each group of blocks; the first group of a stage carries its stride
_FIRST = tuple(_STAGES.index(stage) for stage in range(5))  # group of blocks of each stage


class Group(NamedTuple):
    """Blocks one after the other; but for the first, whose input has other channels, they add their input."""

    side: int  # of the depthwise kernels
    channels: int
    depth: int


class InvertedResidual(nnx.Module):
    """1x1 convolution to six times the channels, depthwise convolution, 1x1 convolution; `add` adds the input.

    BatchNorm follows each, and ReLU6 the first two. Without `expand` there is no first one.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        side: int,
        stride: int,
        dilation: int,
        *,
        expand: bool,
        add: bool,
        padding: Padding,
        epsilon: float,
        **of_layers: Any,
    ):
        width = channels_in * (_EXPANSION if expand else 1)
        self.add = add
        self.layers = ("conv_pw", "conv_dw", "conv_pwl") if expand else ("conv_dw", "conv_pw")
        if expand:
            self.conv_pw = conv(channels_in, width, 1, **of_layers)
        self.conv_dw = DepthwiseConv(width, side, stride=stride, dilation=dilation, padding=padding, **of_layers)
        setattr(self, self.layers[-1], conv(width, channels_out, 1, **of_layers))
        for number in range(1, len(self.layers) + 1):
            channels = width if number < len(self.layers) else channels_out
            setattr(self, f"bn{number}", BatchNorm(channels, epsilon=epsilon, **of_layers))

    def __call__(self, x: Map, *, train: bool) -> Map:
        """The result of the last convolution, to which the input may be added."""
        found = self.reduced(self.expanded(x, train=train), train=train)
        return found + x if self.add else found

    def expanded(self, x: Map, *, train: bool) -> Map:
        """The map of six times the channels; the input where the block does not expand it."""
        return nnx.relu6(self._normalized(1, x, train)) if len(self.layers) == 3 else x

    def reduced(self, x: Map, *, train: bool) -> Map:
        """The result of the last convolution, from what is `expanded`."""
        last = len(self.layers)
        return self._normalized(last, nnx.relu6(self._normalized(last - 1, x, train)), train)

    def _normalized(self, number: int, x: Map, train: bool) -> Map:
        found: Map = getattr(self, f"bn{number}")(getattr(self, self.layers[number - 1])(x), train=train)
        return found


class InvertedResiduals(Encoder):
    """A 3x3 convolution, seven groups of inverted residuals, and a 1x1 convolution to 1280 channels.

    Stages 1 to 4 end within the block that leads to the next one, after its expansion, as SSDLite takes them
    (MobileNetV2, Sec. 6.2): the maps between blocks are narrow, 16 to 112 channels, and not rectified. The last ends
    after the last convolution. With `dilate` the layers behind a removed stride are dilated: the published network's
    value at row i of a stage is found, for every stride that was removed, at row 2i; at row 2i + 1 where the padding is
    TensorFlow's and the layer's map had an even number of rows. `shift` is where training puts the weight of kernels
    that have a stride, or had one (`Strided`).
    """

    head_names = head_of_torch("classifier")

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        padding: Padding,
        epsilon: float,
        shift: float = 0.0,
        final_stride: int = 8,
        dilate: bool = False,
        **of_layers: Any,
    ):
        of_blocks = {"padding": padding, "epsilon": epsilon, **of_layers}
        self.strides = strides_up_to(final_stride)
        self.conv_stem = conv(3, _STEM, 3, stride=2, padding=padding, **of_layers)
        self.bn1 = BatchNorm(_STEM, epsilon=epsilon, **of_layers)
        sampled = subsamplings(final_stride, dilate)
        blocks, channels, strided = [], _STEM, {0: Strided(3, 2, _zeros(padding, 3), shift)}
        for number, (side, width, depth) in enumerate(groups):
            stage = _STAGES[number]
            stride, first, inner = sampled[stage]
            steps = [(1, inner)] * depth
            if stage not in strided:
                steps[0] = stride, first
                strided[stage] = Strided(side, stride, _zeros(padding, side), first * shift)
            group: list[InvertedResidual] = []
            for step in steps:
                block = InvertedResidual(channels, width, side, *step, expand=number > 0, add=bool(group), **of_blocks)
                group.append(block)
                channels = width
            blocks.append(nnx.List(group))
        self.blocks = nnx.List(blocks)
        self.strided = tuple((layer,) for layer in strided.values())
        self.conv_head = conv(channels, _TOP, 1, **of_layers)
        self.bn2 = BatchNorm(_TOP, epsilon=epsilon, **of_layers)
        self.channels = (*(_EXPANSION * groups[number - 1].channels for number in _FIRST[1:]), _TOP)

    def stage(self, index: int, x: Map, *, train: bool, rng: Keys = None, at: At = unchanged) -> Map:
        if index == 0:
            x = at("conv_stem", nnx.relu6(self.bn1(self.conv_stem(x), train=train)))
        for number, group in enumerate(self.blocks):
            for position, block in enumerate(group if _STAGES[number] == index else ()):
                begun = index > 0 and number == _FIRST[index] and position == 0
                x = at(f"blocks.{number}.{position}", block.reduced(x, train=train) if begun else block(x, train=train))
        if index + 1 < len(_FIRST):
            return self.blocks[_FIRST[index + 1]][0].expanded(x, train=train)
        return at("conv_head", nnx.relu6(self.bn2(self.conv_head(x), train=train)))


def _zeros(padding: Padding, side: int) -> int | None:
    return None if padding == "SAME" else side // 2
