"""A small residual encoder that a CPU trains from scratch in minutes on images of 64 to 96 pixels.

For tests, for the synthetic benchmark and for trying an idea before an accelerator is asked for.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from fcam_jax.errors import InputError
from fcam_jax.models.encoder import At, Encoder, Keys, Map, unchanged
from fcam_jax.models.layers import ConvBNReLU
from fcam_jax.models.resnet import BasicBlock


class Small(Encoder):
    """A convolution at 1/2, residual blocks at 1/4 and 1/8 of the image, and a 1x1 convolution on top.

    The receptive field is 39 pixels: with larger ones, a CAM of so small an image would be one blob of a third of it.
    """

    published_stride = 8

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64, 128),
        *,
        final_stride: int = 8,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if final_stride != 8:
            raise InputError(f"final_stride is {final_stride!r}; that of the small encoder is 8")
        stem, quarter, eighth, top = widths
        self.channels = (stem, quarter, eighth, top)
        self.strides = (2, 4, 8, 8)
        self.stem = ConvBNReLU(3, stem, stride=2, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(
            [
                BasicBlock(stem, quarter, stride=2, dtype=dtype, rngs=rngs),
                BasicBlock(quarter, eighth, stride=2, dtype=dtype, rngs=rngs),
                ConvBNReLU(eighth, top, side=1, dtype=dtype, rngs=rngs),
            ]
        )

    def stage(self, index: int, x: Map, *, train: bool, rng: Keys = None, at: At = unchanged) -> Map:
        """The map of stage `index` from that of the stage before it (from the image for stage 0)."""
        if index == 0:
            return at("stem", self.stem(x, train=train))
        return at(f"blocks.{index - 1}", self.blocks[index - 1](x, train=train))
