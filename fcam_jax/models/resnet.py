"""ResNet and ResNeXt, with the last subsamplings removed so that the top map is 1/8 of the image; a small encoder of
their blocks.

The layout and the names are torchvision's (the stride of a bottleneck is on its 3x3 convolution), so that its weights
fit without translation. Stages: the stem before its max-pool, then layer1 to layer4.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models.batch_norm import BatchNorm
from fcam_jax.models.encoder import (
    FINAL_STRIDES,
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
from fcam_jax.models.layers import ConvBNReLU, conv, max_pool, relu
from fcam_jax.models.pretrained import Pretrained, Sized, torchvision
from fcam_jax.models.weight_names import of_torch

_WHOLE = Subsampling(1, 1, 1)  # neither a stride nor dilated


class Residual(nnx.Module):
    """ReLU of `x + F(x)`, with a 1x1 projection of x where the shapes differ; F is convolutions with BatchNorm."""

    expansion: ClassVar[int]  # channels of the result over `width`
    sides: ClassVar[tuple[int, ...]]  # of the kernels, as many as there are convolutions
    strided: ClassVar[int]  # which of them has the stride, and the groups

    def __init__(
        self,
        channels_in: int,
        width: int,
        *,
        sampling: Subsampling = _WHOLE,
        groups: int = 1,
        width_of_groups: int = 64,
        **of_layers: Any,
    ):
        channels_out, inner = width * self.expansion, width * width_of_groups // 64 * groups
        self.downsample: nnx.List | None = nnx.data(None)
        if sampling.stride != 1 or channels_in != channels_out:
            projection = conv(channels_in, channels_out, 1, stride=sampling.stride, **of_layers)
            self.downsample = nnx.List([projection, BatchNorm(channels_out, **of_layers)])
        widths = (channels_in, *[inner] * (len(self.sides) - 1), channels_out)
        for number, side in enumerate(self.sides, start=1):
            settings: dict[str, Any] = {"dilation": sampling.inner} if side > 1 else {}
            if number == self.strided:
                settings = {"stride": sampling.stride, "dilation": sampling.dilation, "groups": groups}
            inputs, outputs = widths[number - 1 : number + 1]
            setattr(self, f"conv{number}", conv(inputs, outputs, side, **settings, **of_layers))
            setattr(self, f"bn{number}", BatchNorm(outputs, **of_layers))

    def __call__(self, x: Map, *, train: bool) -> Map:
        """The sum of the branch F and the (projected) input."""
        shortcut = x
        if self.downsample is not None:
            projection, norm = self.downsample
            shortcut = norm(projection(x), train=train)
        for number in range(1, len(self.sides) + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x), train=train)
            x = nnx.relu(x) if number < len(self.sides) else relu(x + shortcut)
        return x


class BasicBlock(Residual):
    """Two 3x3 convolutions; the first carries the stride."""

    expansion, sides, strided = 1, (3, 3), 1


class Bottleneck(Residual):
    """1x1 convolution to `width` channels, 3x3 with the stride, 1x1 to four times as many.

    ResNeXt's 3x3 convolution has groups of `width_of_groups / 64 width` channels.

    Reference: Xie et al., Aggregated residual transformations for deep neural networks, CVPR 2017, Sec. 3.
    """

    expansion, sides, strided = 4, (1, 3, 1), 2


class ResNet(Encoder):
    """ResNet or ResNeXt of any depth, without its pooling and classification layer; `of_blocks` are a `Residual`'s.

    With `pooled`, and a final stride of 16 or 32, the last halving is a 2x2 max-pool before layer4. The map of layer3
    has twice the side then.

    Reference: He et al., Deep residual learning, CVPR 2016; F-CAM, section 4.1 for the removed strides.
    """

    for_methods = ("pooled",)
    new_layers = ("layer4",)
    weight_names = (of_torch("torchvision's ResNet"),)  # timm's are the same

    def __init__(
        self,
        block: type[Residual],
        depths: Sequence[int],
        *,
        final_stride: int = 8,
        dilate: bool = False,
        groups: int = 1,
        width_of_groups: int = 64,
        pooled: bool = False,
        **of_layers: Any,
    ):
        widths = (64, 128, 256, 512)
        of_blocks = {"groups": groups, "width_of_groups": width_of_groups, **of_layers}
        self.channels = (64, *(width * block.expansion for width in widths))
        self.strides, samplings = strides_up_to(final_stride), subsamplings(final_stride, dilate)
        self.pooled = pooled and final_stride > FINAL_STRIDES[0]
        if self.pooled:
            self.strides = (*strides_up_to(final_stride // 2)[:-1], final_stride)
            samplings = (*subsamplings(final_stride // 2, dilate)[:-1], samplings[-1]._replace(stride=1))
        self.strided = ((Strided(7, 2, 3),), *((Strided(3, 2, 1),) if one.stride == 2 else () for one in samplings[1:]))
        if self.pooled:
            self.strided = (*self.strided[:-1], (Strided(2, 2, 0),))
        self.conv1 = conv(3, 64, 7, stride=2, **of_layers)
        self.bn1 = BatchNorm(64, **of_layers)

        layers = []
        for index, depth in enumerate(depths, start=1):
            inner = samplings[index].inner
            # layer1 follows a max-pool that has already halved its input.
            first = _WHOLE if index == 1 else samplings[index]
            steps = [(self.channels[index - 1], first)]
            steps += [(self.channels[index], Subsampling(1, inner, inner))] * (depth - 1)
            layers.append(nnx.List([block(c, widths[index - 1], sampling=s, **of_blocks) for c, s in steps]))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers

    def stage(self, index: int, x: Map, *, train: bool, rng: Keys = None, at: At = unchanged) -> Map:
        if index == 0:
            return at("relu", nnx.relu(self.bn1(self.conv1(x), train=train)))
        if index == 1:
            x = max_pool(x, stride=2, padding=1)
        if index == 4 and self.pooled:
            x = at("pool4", nnx.max_pool(x, (2, 2), (2, 2)))
        for position, block in enumerate((self.layer1, self.layer2, self.layer3, self.layer4)[index - 1]):
            x = at(f"layer{index}.{position}", block(x, train=train))
        return x


def _sized(of: str, hashes: Sequence[str], block: type[Residual], depths: Sequence[int], **settings: Any) -> Sized:
    """A network with torchvision's weights, by the hashes of their versions, and timm's, which were trained longer."""
    name = of.lower()
    files: dict[str, Any] = {
        f"IMAGENET1K_V{version}": f"{name}-{digits}.pth" for version, digits in enumerate(hashes, start=1)
    }
    weights = (
        *torchvision(of, side=224, **dict(reversed(files.items()))),
        Pretrained(f"timm:{name}.a1_in1k", "Apache-2.0"),
    )
    return Sized(ResNet, block, depths, pretrained=weights, **settings)


RESNETS = {
    "resnet18": _sized("ResNet18", ("f37072fd",), BasicBlock, (2, 2, 2, 2)),
    "resnet34": _sized("ResNet34", ("b627a593",), BasicBlock, (3, 4, 6, 3)),
    "resnet50": _sized("ResNet50", ("0676ba61", "11ad3fa6"), Bottleneck, (3, 4, 6, 3)),
    "resnet101": _sized("ResNet101", ("63fe2227", "cd907fc2"), Bottleneck, (3, 4, 23, 3)),
    "resnet152": _sized("ResNet152", ("394f9c45", "f82ba261"), Bottleneck, (3, 8, 36, 3)),
    "resnext50": _sized(
        "ResNeXt50_32X4D", ("7cdf4587", "1a0047aa"), Bottleneck, (3, 4, 6, 3), groups=32, width_of_groups=4
    ),
}


class Small(Encoder):
    """A small residual encoder that a CPU trains from scratch in minutes on images of 64 to 96 pixels.

    A convolution at 1/2, residual blocks at 1/4 and 1/8 of the image, and a 1x1 convolution on top. The receptive field
    is 39 pixels: with larger ones, a CAM of so small an image would be one blob of a third of it.
    """

    published_stride = 8

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128), *, final_stride: int = 8, **of_layers: Any):
        if final_stride != 8:
            raise InputError(f"final_stride is {final_stride!r}; that of the small encoder is 8")
        stem, quarter, eighth, top = widths
        self.channels = (stem, quarter, eighth, top)
        self.strides = (2, 4, 8, 8)
        halving = (Strided(3, 2, 1),)
        self.strided = (halving, halving, halving, ())
        self.stem = ConvBNReLU(3, stem, stride=2, **of_layers)
        pairs, halved = ((stem, quarter), (quarter, eighth)), Subsampling(2, 1, 1)
        blocks = (BasicBlock(ins, outs, sampling=halved, **of_layers) for ins, outs in pairs)
        self.blocks = nnx.List([*blocks, ConvBNReLU(eighth, top, side=1, **of_layers)])

    def stage(self, index: int, x: Map, *, train: bool, rng: Keys = None, at: At = unchanged) -> Map:
        if index == 0:
            return at("stem", self.stem(x, train=train))
        return at(f"blocks.{index - 1}", self.blocks[index - 1](x, train=train))
