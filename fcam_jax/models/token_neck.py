"""Necks: what stands between a plain transformer, whose stages have one stride, and the decoder, which climbs from a
coarse map to a fine one.

A neck makes four maps out of the tokens, at four times, twice, once and half their resolution, and two out of the image
by a shallow stem, at the resolutions above these. It is a part of the decoder: trained, saved and exported with it.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fcam_jax.errors import InputError
from fcam_jax.models.encoder import Map
from fcam_jax.models.layers import KAIMING_FAN_IN, ConvBNReLU, conv, gelu, resize_align_corners
from fcam_jax.runtime.remat import kept

STEM = (32, 64)  # channels of the stem's maps at full and half size
PYRAMID = 256  # channels of the simple pyramid's maps


def is_plain(strides: Sequence[int]) -> bool:
    """Whether an encoder's stages are its image and then several maps of one stride, which need a neck."""
    first, *others = strides
    return first == 1 and len(others) > 1 and len(set(others)) == 1


class Enlarge(nnx.Module):
    """Transposed convolution whose stride is its side, so that every value becomes a square of its own.

    $$ y_{(ks + i, ls + j)} = W_{ij}^\\top x_{kl} + b, \\quad 0 \\le i, j < s $$

    The kernel is [s, s, in, out]; it is one matrix product.
    """

    def __init__(
        self, channels_in: int, channels_out: int, side: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        init = jax.nn.initializers.variance_scaling(1.0, "fan_in", "uniform", in_axis=2, out_axis=3, batch_axis=(0, 1))
        self.kernel = nnx.Param(init(rngs.params(), (side, side, channels_in, channels_out), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels_out, jnp.float32))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ _"]:
        """The map, `s` times as high and wide."""
        (b, h, w, _), (side, *_, channels) = x.shape, self.kernel.shape
        product = jnp.einsum("bhwc,ijcd->bhiwjd", x.astype(self.dtype), self.kernel[...].astype(self.dtype))
        return product.reshape(b, side * h, side * w, channels) + self.bias[...].astype(self.dtype)


class Neck(nnx.Module):
    """What all necks share: the stem, and how many levels of which stride there are.

    The strides are those of a patch of `grid` pixels, the smallest power of two that the patch fits into: a patch of 14
    pixels counts as one of 16. The stem sees the image at that scale, and the decoder's map, which is a multiple of the
    tokens then, is resized once, at its end.

    Args:
      channels: of the encoder's stages; the first is the image.
      strides: of the encoder's stages.
      of_layers: `rngs`, and `dtype` of the computation.

    Attributes:
      channels: of the neck's maps, from high to low resolution.
      strides: of the neck's maps.
      takes: positions of the encoder's stages that it looks at; the first is the image.
    """

    takes: tuple[int, ...]
    levels: tuple[int, ...]  # channels of the maps that are made of tokens

    def __init__(self, channels: Sequence[int], strides: Sequence[int], **of_layers: Any):
        self.grid = 2 ** math.ceil(math.log2(strides[-1]))
        if self.grid < 4:
            raise InputError(f"patches of {strides[-1]} pixels are too small for a neck; it takes 3 and more")
        stem = [width for stride, width in zip((1, 2), STEM, strict=True) if stride < self.grid // 4]
        self.channels = (*stem, *self.levels)
        self.strides = (*(1, 2)[: len(stem)], *(self.grid // 4 * 2**n for n in range(len(self.levels))))
        inputs = (channels[0], *STEM)
        layers = [
            ConvBNReLU(inputs[n], width, stride=n + 1, init=KAIMING_FAN_IN, **of_layers) for n, width in enumerate(stem)
        ]
        self.stem = nnx.List(layers)

    def __call__(self, stages: Sequence[Map | None], *, train: bool) -> tuple[Map, ...]:
        """The maps from high to low resolution; of the stages those that it `takes` must be there."""
        image, *tokens = (stage for index in self.takes if (stage := stages[index]) is not None)
        size = self.grid * tokens[-1].shape[1], self.grid * tokens[-1].shape[2]
        x = image if image.shape[1:3] == size else resize_align_corners(image, size)
        found = []
        for layer in self.stem:
            x = layer(x, train=train)
            found.append(x)
        return tuple(map(kept, (*found, *self.of_tokens(tokens))))

    def of_tokens(self, maps: Sequence[Map]) -> tuple[Map, ...]:
        """The maps of the levels, from high to low resolution, from those of the stages."""
        raise NotImplementedError


class Reassemble(Neck):
    """DPT's reassembling: every level is made of the tokens of another depth, the finest of the shallowest.

    Tokens of a quarter, half, three quarters and the end of the depth, without the class token ("ignore"); a 1x1
    convolution to D/8, D/4, D/2 and D channels; then a transposed convolution 4x4 of stride 4, one 2x2 of stride 2,
    nothing, and a convolution 3x3 of stride 2.

    Reference: Ranftl et al., Vision transformers for dense prediction, ICCV 2021, Sec. 3.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], **of_layers: Any):
        if len(channels) < 5:
            raise InputError(
                f"neck is 'reassemble', which joins four stages of tokens; this encoder has {len(channels) - 1}: "
                "choose 'pyramid'"
            )
        self.takes = (0, 1, 2, 3, len(channels) - 1)
        self.levels = tuple(channels[-1] // share for share in (8, 4, 2, 1))
        super().__init__(channels, strides, **of_layers)
        inputs = [channels[index] for index in self.takes[1:]]
        self.project = nnx.List(
            [conv(*sizes, 1, bias=True, **of_layers) for sizes in zip(inputs, self.levels, strict=True)]
        )
        self.quadruple = Enlarge(self.levels[0], self.levels[0], 4, **of_layers)
        self.double = Enlarge(self.levels[1], self.levels[1], 2, **of_layers)
        self.halve = conv(self.levels[3], self.levels[3], 3, stride=2, bias=True, **of_layers)

    def of_tokens(self, maps: Sequence[Map]) -> tuple[Map, ...]:
        first, second, third, fourth = (project(x) for project, x in zip(self.project, maps, strict=True))
        return self.quadruple(first), self.double(second), third, self.halve(fourth)


class _Level(nnx.Module):
    """1x1 and 3x3 convolution without bias, each with LayerNorm: what every level of the simple pyramid ends in."""

    def __init__(self, channels_in: int, **of_layers: Any):
        self.conv1 = conv(channels_in, PYRAMID, 1, **of_layers)
        self.norm1 = nnx.LayerNorm(PYRAMID, epsilon=1e-6, **of_layers)
        self.conv2 = conv(PYRAMID, PYRAMID, 3, **of_layers)
        self.norm2 = nnx.LayerNorm(PYRAMID, epsilon=1e-6, **of_layers)

    def __call__(self, x: Map) -> Map:
        """Apply the four in order."""
        return self.norm2(self.conv2(self.norm1(self.conv1(x))))


class SimplePyramid(Neck):
    """ViTDet's simple feature pyramid: all four levels are made of the last tokens.

    Two transposed convolutions 2x2 of stride 2 with LayerNorm and GELU between them, one such convolution, nothing, and
    2x2 max-pooling; then a 1x1 and a 3x3 convolution to 256 channels with LayerNorm each.

    Reference: Li et al., Exploring plain vision transformer backbones for object detection, ECCV 2022, Sec. 3.
    """

    levels = (PYRAMID,) * 4

    def __init__(self, channels: Sequence[int], strides: Sequence[int], **of_layers: Any):
        self.takes = (0, len(channels) - 1)
        super().__init__(channels, strides, **of_layers)
        width = channels[-1]
        self.double1 = Enlarge(width, width // 2, 2, **of_layers)
        self.norm = nnx.LayerNorm(width // 2, epsilon=1e-6, **of_layers)
        self.double2 = Enlarge(width // 2, width // 4, 2, **of_layers)
        self.double = Enlarge(width, width // 2, 2, **of_layers)
        self.ends = nnx.List([_Level(size, **of_layers) for size in (width // 4, width // 2, width, width)])

    def of_tokens(self, maps: Sequence[Map]) -> tuple[Map, ...]:
        (x,) = maps
        fine = self.double2(gelu(self.norm(self.double1(x))))
        levels = fine, self.double(x), x, nnx.max_pool(x, (2, 2), (2, 2))
        return tuple(end(level) for end, level in zip(self.ends, levels, strict=True))


NECKS: dict[str, type[Neck]] = {"reassemble": Reassemble, "pyramid": SimplePyramid}
