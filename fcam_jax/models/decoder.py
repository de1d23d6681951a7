"""The U-Net decoder that turns the encoder's stages into a map at the image's resolution (F-CAM, section 3).

In: stages from high to low resolution. Out: scores of background and foreground for every pixel, before softmax; in
training on request also the image again, by a second head.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fcam_jax.errors import InputError
from fcam_jax.models.layers import (
    KAIMING_FAN_IN,
    ConvBNReLU,
    resize_align_corners,
    upsample_nearest,
    upsample_nearest_to,
)
from fcam_jax.runtime.remat import kept

REGIONS = 2  # background, foreground
COLOURS = 3


class UpBlock(nnx.Module):
    """Upsampling, concatenation of the skip, and two convolutions."""

    def __init__(self, channels_in: int, skip: int, width: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.conv1 = ConvBNReLU(channels_in + skip, width, init=KAIMING_FAN_IN, dtype=dtype, rngs=rngs)
        self.conv2 = ConvBNReLU(width, width, init=KAIMING_FAN_IN, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b h w c"], skip: Float[Array, "b _ _ _"] | None, *, train: bool
    ) -> Float[Array, "b _ _ _"]:
        """The map at the skip's size, or at twice the size where there is no skip."""
        if skip is None:
            x = upsample_nearest(x)
        else:
            _, height, width, _ = skip.shape
            x = jnp.concatenate([upsample_nearest_to(x, (height, width)), skip], axis=-1)
        return self.conv2(self.conv1(x, train=train), train=train)


class Decoder(nnx.Module):
    """U-Net decoder for the stages of any encoder.

    One block for every stage below the image's resolution, from the top stage upwards; the last has no skip.

    Args:
      channels: channels of the encoder's stages, from high to low resolution.
      strides: their strides. A stage of stride 1 is not used.
      widths: channels of each block's result.
      center: two further convolutions of unchanged width on the top stage first (VGG16).
      reconstruction: a second head, which reconstructs the image.
      dtype: compute dtype; the result is float32 always.
      rngs: source of the initial weights.

    Raises:
      InputError: there is not one width for every block.

    Reference: F-CAM (WACV 2022), Fig. 2 and section 4.1; Ronneberger et al., U-Net, MICCAI 2015.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        widths: Sequence[int],
        *,
        center: bool = False,
        reconstruction: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        used = [index for index, stride in enumerate(strides) if stride > 1]
        if len(widths) != len(used):
            raise InputError(
                f"decoder widths: got {len(widths)} ({', '.join(map(str, widths))}), but this encoder has "
                f"{len(used)} stages below the image's resolution and needs one width for each"
            )
        *skips, top = used
        self.skips = tuple(reversed(skips))
        inputs = (channels[top], *widths[:-1])
        skip_channels = (*(channels[index] for index in self.skips), 0)
        self.center = nnx.List(
            [
                ConvBNReLU(channels[top], channels[top], init=KAIMING_FAN_IN, dtype=dtype, rngs=rngs)
                for _ in range(2 if center else 0)
            ]
        )
        self.blocks = nnx.List(
            [
                UpBlock(channels_in, skip, width, dtype=dtype, rngs=rngs)
                for channels_in, skip, width in zip(inputs, skip_channels, widths, strict=True)
            ]
        )
        self.head = _head(widths[-1], REGIONS, rngs)
        # After all others, whose initial weights do not depend on whether there is this one.
        self.reconstruction = _head(widths[-1], COLOURS, rngs) if reconstruction else None

    def __call__(
        self, stages: Sequence[Float[Array, "b _ _ _"]], size: tuple[int, int], *, train: bool
    ) -> Float[Array, "b h w 2"]:
        """Scores of background and foreground before softmax.

        Args:
          stages: the encoder's, from high to low resolution.
          size: height and width of the result, in pixels: the image's.
          train: BatchNorm takes the batch's statistics and updates the running ones.
        """
        return _resized(self.head(self._features(stages, train=train)), size)

    def with_image(
        self, stages: Sequence[Float[Array, "b _ _ _"]], size: tuple[int, int], *, train: bool
    ) -> tuple[Float[Array, "b h w 2"], Float[Array, "b h w 3"] | None]:
        """The scores, and the image that is reconstructed beside them, in [0, 1]; None without a head for it.

        A sigmoid keeps it in the image's range, and lets it start at grey. Arguments are those of a call.
        """
        x = self._features(stages, train=train)
        image = None if self.reconstruction is None else jax.nn.sigmoid(_resized(self.reconstruction(x), size))
        return _resized(self.head(x), size), image

    def _features(self, stages: Sequence[Float[Array, "b _ _ _"]], *, train: bool) -> Float[Array, "b _ _ _"]:
        x = stages[-1]
        for layer in self.center:
            x = layer(x, train=train)
        for block, skip in zip(self.blocks, [*(stages[index] for index in self.skips), None], strict=True):
            x = kept(block(x, skip, train=train))
        return x


def _head(channels_in: int, channels_out: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        channels_in,
        channels_out,
        (3, 3),
        padding=1,
        kernel_init=jax.nn.initializers.glorot_uniform(),
        dtype=jnp.float32,  # few channels: costs nothing, and thresholds need the bits
        rngs=rngs,
    )


def _resized(x: Float[Array, "b _ _ c"], size: tuple[int, int]) -> Float[Array, "b h w c"]:
    return x if x.shape[1:3] == size else resize_align_corners(x, size)
