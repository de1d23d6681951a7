"""VGG16 without its fully connected layers and with a 1024-channel convolution on top, as localization uses it.

Stages end just before each max-pool; the 4th and 5th max-pool are removed for top maps of 1/8 of the image.
"""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from fcam_jax.models.encoder import Encoder, strides_up_to
from fcam_jax.models.layers import conv

# Channels of the 3x3 convolutions between the network's own max-pools.
_GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_TOP = 1024  # channels of conv6


class VGG16(Encoder):
    """VGG16 (configuration D, no BatchNorm) up to conv5_3, then `conv6`, a new 3x3 convolution to 1024 channels.

    A max-pool is kept for every halving up to `final_stride`: three for 8, four for 16, all five for 32.

    Reference: Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015, Table 1; F-CAM, section 4.1.
    """

    new_layers = ("conv6",)

    def __init__(self, *, final_stride: int = 8, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        pools = len(set(strides_up_to(final_stride)))
        ends = [len(group) for group in _GROUPS[:pools]]
        # Without their pools the last groups belong to one stage; with all of them conv6 is a stage of its own.
        self.stage_lengths = (*ends, sum(map(len, _GROUPS)) - sum(ends))
        self.strides = tuple(2**index for index in range(pools + 1))
        self.channels = (*(group[-1] for group in _GROUPS[:pools]), _TOP)

        features, channels = [], 3
        for width in (width for group in _GROUPS for width in group):
            features.append(conv(channels, width, 3, bias=True, dtype=dtype, rngs=rngs))
            channels = width
        self.features = nnx.List(features)
        self.conv6 = conv(channels, _TOP, 3, bias=True, dtype=dtype, rngs=rngs)

    def stage(
        self, index: int, x: Float[Array, "b h w c"], *, train: bool, rng: Key[Array, " b"] | None = None
    ) -> Float[Array, "b _ _ _"]:
        """The map of stage `index` from the map of the stage before it (from the image for stage 0)."""
        if index > 0:
            x = nnx.max_pool(x, (2, 2), (2, 2))
        first = sum(self.stage_lengths[:index])
        for layer in self.features[first : first + self.stage_lengths[index]]:
            x = nnx.relu(layer(x))
        return nnx.relu(self.conv6(x)) if index == len(self.channels) - 1 else x
