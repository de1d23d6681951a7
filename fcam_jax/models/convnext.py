"""ConvNeXt, with the last subsamplings removed so that the top map is 1/8 of the image.

The layout is timm's. Stages end after each of the four groups of blocks. There is no BatchNorm.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from fcam_jax.errors import InputError
from fcam_jax.models.depthwise import DepthwiseConv
from fcam_jax.models.encoder import At, Encoder, Keys, Map, Strided, Subsampling, strides_up_to, subsamplings, unchanged
from fcam_jax.models.layers import conv, drop_path
from fcam_jax.models.pretrained import Pretrained, Sized, torchvision
from fcam_jax.models.transformer import INIT, Perceptron, layer_norm
from fcam_jax.models.weight_names import Path, head_of_torch, of_torch, torch_name

_EPSILON = 1e-6  # of every LayerNorm
_LAYER_SCALE = 1e-6  # of every branch at the start

# What timm calls the layers of a block, and what torchvision and the authors do.
_TORCHVISION = {"conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5"}
_TORCHVISION["gamma"] = "layer_scale"
_AUTHORS = {"conv_dw": "dwconv", "mlp.fc1": "pwconv1", "mlp.fc2": "pwconv2"}


def _timm_name(path: Path) -> str:
    return torch_name(("head", "norm", path[1]) if path[0] == "head_norm" else path)


def _torchvision_name(path: Path) -> str:
    """Stem, blocks, downsampling, blocks and so on are numbered from 0."""
    match _timm_name(path).split("."):
        case "stages", stage, "downsample", *rest:
            return ".".join(["features", str(2 * int(stage)), *rest])
        case "stages", stage, "blocks", block, *rest:
            return f"features.{2 * int(stage) + 1}.{block}.{_renamed('.'.join(rest), _TORCHVISION)}"
    return _renamed(_timm_name(path), {"stem": "features.0", "head.norm": "classifier.0"})


def _authors_name(path: Path) -> str:
    match _timm_name(path).split("."):
        case "stages", stage, "downsample", *rest:
            return ".".join(["downsample_layers", stage, *rest])
        case "stages", stage, "blocks", block, *rest:
            return f"stages.{stage}.{block}.{_renamed('.'.join(rest), _AUTHORS)}"
    return _renamed(_timm_name(path), {"stem": "downsample_layers.0", "head.norm": "norm"})


def _renamed(name: str, words: Mapping[str, str]) -> str:
    for theirs, other in words.items():
        name = name.replace(theirs, other)
    return name


def _without_sides(array: np.ndarray) -> np.ndarray:
    """torchvision's scales of branches are [c, 1, 1]."""
    return array.reshape(-1) if array.ndim == 3 else array


_OF_TORCHVISION = of_torch("torchvision's ConvNeXt", _torchvision_name, depthwise=True)


class Block(nnx.Module):
    """The map and a branch of it: 7x7 depthwise convolution, LayerNorm, perceptron, scale."""

    def __init__(self, channels: int, *, dilation: int, drop_path: float, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv_dw = DepthwiseConv(channels, 7, dilation=dilation, bias=True, dtype=dtype, rngs=rngs)
        self.norm = layer_norm(channels, dtype=dtype, rngs=rngs)
        self.mlp = Perceptron(channels, dtype=dtype, rngs=rngs)
        self.gamma = nnx.Param(jnp.full(channels, _LAYER_SCALE, jnp.float32))
        self.drop_path = drop_path

    def __call__(self, x: Map, *, train: bool, keys: Keys, branch: int) -> Map:
        """The sum; in training the branch of an image may be dropped, by its key."""
        b, height, width, c = x.shape
        tokens = self.mlp(self.norm(self.conv_dw(x).reshape(b, height * width, c)))
        added = (tokens * self.gamma[...].astype(tokens.dtype)).reshape(x.shape)
        return x + (drop_path(added, self.drop_path, keys, branch) if train else added)


class Group(nnx.Module):
    """The parameters of a stage: LayerNorm and convolution of the downsampling, if there is one, and the blocks."""

    def __init__(self, downsample: Sequence[nnx.Module], blocks: Sequence[Block]):
        self.downsample = nnx.List(downsample)
        self.blocks = nnx.List(blocks)


class ConvNeXt(Encoder):
    """ConvNeXt of any depth, without its classification layer.

    A 2x2 convolution whose stride is removed looks at a cell and at its neighbour to the right and below, so that the
    grid moves by half a cell; zeros keep the map's size. The second one looks at neighbours on both sides or, without
    `dilate`, to the left and above, which takes the move back. So the top map is `offset` by 8 pixels at a final stride
    of 16, and at 8 by 4 pixels with `dilate` and by none without. With `dilate`, as timm has it, value [2i, 2j] at 16
    and [4i + 1, 4j + 1] at 8 is the strided network's [i, j], if the image's sides are multiples of 32.

    Args:
      dilate: the layers behind a removed stride are dilated, so that the network computes what it did before.
      drop_path: share of the images of which, in training, the branch of the last block is left out; less in others.

    Raises:
      InputError: a setting is outside its range.

    Reference: Liu et al., A ConvNet for the 2020s, CVPR 2022, Table 9.
    """

    weight_names = (
        of_torch("timm's ConvNeXt", _timm_name, depthwise=True),
        dataclasses.replace(_OF_TORCHVISION, ours=lambda array: _OF_TORCHVISION.ours(_without_sides(array))),
        of_torch("the authors' ConvNeXt", _authors_name, depthwise=True),
    )
    head_names = head_of_torch("head.fc")

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        final_stride: int = 8,
        dilate: bool = False,
        drop_path: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if not 0 <= drop_path < 1:
            raise InputError(f"drop_path is {drop_path!r}; it must be from 0 on and below 1")
        self.depths, self.channels, self.strides = tuple(depths), tuple(widths), strides_up_to(final_stride)[1:]
        samplings = subsamplings(final_stride, dilate)[1:]
        self.strided = ((Strided(4, 4, 0),), *[(layer,) for layer in _downsamplings(samplings[1:])])
        of_layers: dict[str, Any] = {"dtype": dtype, "rngs": rngs}

        def patches(inputs: int, outputs: int, side: int, **settings: Any) -> nnx.Conv:
            return conv(inputs, outputs, side, padding=0, bias=True, init=INIT, **settings, **of_layers)

        self.stem = nnx.List([patches(3, widths[0], 4, stride=4), layer_norm(widths[0], **of_layers)])
        rates = iter(np.linspace(0, drop_path, sum(depths)).tolist())
        groups = []
        for index, (depth, width, sampling) in enumerate(zip(depths, widths, samplings, strict=True)):
            downsample: list[nnx.Module] = []
            if index:
                layer = patches(widths[index - 1], width, 2, stride=sampling.stride, dilation=sampling.dilation)
                downsample = [layer_norm(widths[index - 1], **of_layers), layer]
            of_block = {"dilation": sampling.inner, **of_layers}
            groups.append(Group(downsample, [Block(width, drop_path=next(rates), **of_block) for _ in range(depth)]))
        self.stages = nnx.List(groups)
        self.head_norm = layer_norm(widths[-1], **of_layers)

    def before_head(self, features: Map) -> Map:
        """The map whose mean is the LayerNorm of the top map's mean, which is what the published head scores.

        $$ \\gamma\\, \\frac{A_p - \\mu_p}{\\sigma} + \\beta $$

        with the mean mu over the channels of the position p, and sigma the deviation over the channels of the mean over
        all positions. So a CAM is the share of every position in the score here, too.
        """
        values = features.astype(jnp.float32)
        deviation = jnp.sqrt(values.mean(axis=(1, 2), keepdims=True).var(axis=-1, keepdims=True) + _EPSILON)
        norm, zero = self.head_norm, jnp.zeros_like(values[0, 0, 0])
        assert norm.scale is not None and norm.bias is not None
        scale, bias = norm.scale[...] + zero, norm.bias[...] + zero
        return ((values - values.mean(axis=-1, keepdims=True)) / deviation * scale + bias).astype(features.dtype)

    def stage(self, index: int, x: Map, *, train: bool, rng: Keys = None, at: At = unchanged) -> Map:
        group = self.stages[index]
        if index == 0:
            patches, norm = self.stem
            x = at("stem", norm(patches(x)))
        else:
            norm, patches = group.downsample
            pads = _pads(*self.strided[index])
            x = patches(jnp.pad(norm(x), [(0, 0), pads, pads, (0, 0)]))
        for number, block in enumerate(group.blocks):
            branch = sum(self.depths[:index]) + number
            x = at(f"stages.{index}.{number}", block(x, train=train, keys=rng, branch=branch))
        return x


def _downsamplings(samplings: Sequence[Subsampling]) -> list[Strided]:
    """The 2x2 convolutions; of those without stride the first has more zeros after the map, the next before it."""
    layers: list[Strided] = []
    for one in samplings:
        removed = sum(layer.stride == 1 for layer in layers)
        before = (one.dilation + removed) // 2 if one.stride == 1 else 0
        layers.append(Strided(one.dilation + 1, one.stride, before))
    return layers


def _pads(layer: Strided) -> tuple[int, int]:
    """Zeros before and after the map, which keep its size where there is no stride."""
    before = layer.padding or 0
    return before, layer.kernel - 1 - before if layer.stride == 1 else 0


def _weights(size: str, file: str) -> tuple[Pretrained, ...]:
    timm = (Pretrained(f"timm:convnext_{size.lower()}.{tag}", "Apache-2.0") for tag in ("fb_in1k", "fb_in22k_ft_in1k"))
    return (*timm, *torchvision(f"ConvNeXt_{size}", IMAGENET1K_V1=file))


CONVNEXTS = {
    f"convnext_{size.lower()}": Sized(ConvNeXt, (3, 3, depth, 3), widths, pretrained=_weights(size, file))
    for size, depth, widths, file in (
        ("Tiny", 9, (96, 192, 384, 768), "convnext_tiny-983f1562.pth"),
        ("Small", 27, (96, 192, 384, 768), "convnext_small-0c510722.pth"),
        ("Base", 27, (128, 256, 512, 1024), "convnext_base-6075fbad.pth"),
    )
}
