"""ResNet, with the last subsamplings removed so that the top map is 1/8 of the image (F-CAM's ResNet50).

The layout and the names are torchvision's (the stride of a bottleneck is on its 3x3 convolution), so that its weights
fit without translation. Stages: the stem before its max-pool, then layer1 to layer4.
"""

from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from fcam_jax.models.encoder import At, Encoder, strides_up_to, unchanged
from fcam_jax.models.layers import BatchNorm, conv, max_pool


class Residual(nnx.Module):
    """What the two kinds of block share: `x + F(x)`, with a 1x1 projection of x where the shapes differ.

    Attributes:
      expansion: channels of the result over `width`.
    """

    expansion: ClassVar[int]

    def __init__(self, channels_in: int, width: int, *, stride: int, dtype: DTypeLike, rngs: nnx.Rngs):
        channels_out = width * self.expansion
        self.downsample: nnx.List | None = nnx.data(None)
        if stride != 1 or channels_in != channels_out:
            projection = conv(channels_in, channels_out, 1, stride=stride, dtype=dtype, rngs=rngs)
            self.downsample = nnx.List([projection, BatchNorm(channels_out, dtype=dtype, rngs=rngs)])

    def branch(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b _ _ _"]:
        """F(x), before the sum and its ReLU."""
        raise NotImplementedError

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b _ _ _"]:
        """ReLU of the sum of the branch and the (projected) input."""
        shortcut = x
        if self.downsample is not None:
            projection, norm = self.downsample
            shortcut = norm(projection(x), train=train)
        return nnx.relu(self.branch(x, train=train) + shortcut)


class BasicBlock(Residual):
    """Two 3x3 convolutions; the first carries the stride."""

    expansion = 1

    def __init__(
        self, channels_in: int, width: int, *, stride: int = 1, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        super().__init__(channels_in, width, stride=stride, dtype=dtype, rngs=rngs)
        self.conv1 = conv(channels_in, width, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(width, dtype=dtype, rngs=rngs)
        self.conv2 = conv(width, width, 3, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(width, dtype=dtype, rngs=rngs)

    def branch(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b _ _ _"]:
        """F(x), before the sum and its ReLU."""
        x = nnx.relu(self.bn1(self.conv1(x), train=train))
        return self.bn2(self.conv2(x), train=train)


class Bottleneck(Residual):
    """1x1 convolution to `width` channels, 3x3 with the stride, 1x1 to four times as many."""

    expansion = 4

    def __init__(
        self, channels_in: int, width: int, *, stride: int = 1, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        super().__init__(channels_in, width, stride=stride, dtype=dtype, rngs=rngs)
        self.conv1 = conv(channels_in, width, 1, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(width, dtype=dtype, rngs=rngs)
        self.conv2 = conv(width, width, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(width, dtype=dtype, rngs=rngs)
        self.conv3 = conv(width, width * self.expansion, 1, dtype=dtype, rngs=rngs)
        self.bn3 = BatchNorm(width * self.expansion, dtype=dtype, rngs=rngs)

    def branch(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b _ _ _"]:
        """F(x), before the sum and its ReLU."""
        x = nnx.relu(self.bn1(self.conv1(x), train=train))
        x = nnx.relu(self.bn2(self.conv2(x), train=train))
        return self.bn3(self.conv3(x), train=train)


class ResNet(Encoder):
    """ResNet of any depth, without its pooling and classification layer.

    Reference: He et al., Deep residual learning, CVPR 2016; F-CAM, section 4.1 for the removed strides.
    """

    new_layers = ("layer4",)

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        final_stride: int = 8,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = (64, 128, 256, 512)
        self.channels = (64, *(width * block.expansion for width in widths))
        self.strides = strides_up_to(final_stride)
        self.conv1 = conv(3, 64, 7, stride=2, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(64, dtype=dtype, rngs=rngs)

        layers = []
        for index, depth in enumerate(depths, start=1):
            # layer1 follows a max-pool that has already halved its input.
            stride = 1 if index == 1 else self.strides[index] // self.strides[index - 1]
            steps = [(self.channels[index - 1], stride)] + [(self.channels[index], 1)] * (depth - 1)
            width = widths[index - 1]
            layers.append(nnx.List([block(c, width, stride=s, dtype=dtype, rngs=rngs) for c, s in steps]))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers

    def stage(
        self,
        index: int,
        x: Float[Array, "b h w c"],
        *,
        train: bool,
        rng: Key[Array, " b"] | None = None,
        at: At = unchanged,
    ) -> Float[Array, "b _ _ _"]:
        """The map of stage `index` from the map of the stage before it (from the image for stage 0)."""
        if index == 0:
            return at("relu", nnx.relu(self.bn1(self.conv1(x), train=train)))
        if index == 1:
            x = max_pool(x, stride=2, padding=1)
        for position, block in enumerate((self.layer1, self.layer2, self.layer3, self.layer4)[index - 1]):
            x = at(f"layer{index}.{position}", block(x, train=train))
        return x
