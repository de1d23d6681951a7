"""The U-Net decoder that turns the encoder's stages into a map at the image's resolution (F-CAM, section 3).

In: stages from high to low resolution. Out: scores of background and foreground for every pixel, before softmax; in
training on request also the image again, by a second head.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from fcam_jax.errors import InputError
from fcam_jax.models.encoder import Map
from fcam_jax.models.layers import KAIMING_FAN_IN, ConvBNReLU, resize_align_corners, upsample_nearest
from fcam_jax.models.token_neck import NECKS, Neck, is_plain
from fcam_jax.models.weight_names import Names, Path, of_torch, torch_name
from fcam_jax.runtime.remat import kept

REGIONS = 2  # background, foreground
COLOURS = 3
WIDTHS = (256, 128, 64, 32, 16)  # the paper's, of the first blocks from the top stage

_PLACES = {"conv": "0", "bn": "1", "head": "segmentation_head.0", "reconstruction": "reconstruction_head.0"}


def decoder_name(path: Path) -> str:
    """The authors' name of a decoder's parameter: ``("blocks", 0, "conv1", "bn", "scale")`` is
    ``blocks.0.conv1.1.weight``: convolution and BatchNorm lie in a list there, and so does the last layer.
    """
    return torch_name((*(_PLACES.get(str(part), part) for part in path[:-1]), path[-1]))


class UpBlock(nnx.Module):
    """Upsampling, concatenation of the skip, and two convolutions."""

    def __init__(self, channels_in: int, skip: int, width: int, **of_layers: Any):
        self.conv1 = ConvBNReLU(channels_in + skip, width, init=KAIMING_FAN_IN, **of_layers)
        self.conv2 = ConvBNReLU(width, width, init=KAIMING_FAN_IN, **of_layers)

    def __call__(self, x: Map, skip: Map | None, *, train: bool) -> Map:
        """The map at the skip's size, or at twice the size where there is no skip."""
        if skip is None:
            x = upsample_nearest(x)
        else:
            x = jnp.concatenate([upsample_nearest(x, (skip.shape[1], skip.shape[2])), skip], axis=-1)
        return self.conv2(self.conv1(x, train=train), train=train)


class Decoder(nnx.Module):
    """U-Net decoder for the stages of any encoder, of which there may be one alone.

    From the top stage upwards, a block doubles the map and joins it with the next stage, or, where that is more than
    twice as large, doubles it alone. Further blocks double it until it has the image's size.

    Args:
      channels: channels of the encoder's stages, from high to low resolution.
      strides: their strides. A stage of stride 1 is not used, but where a neck makes it.
      widths: channels of each block's result; none for the paper's, `WIDTHS`.
      center: two further convolutions of unchanged width on the top stage first (VGG16).
      neck: one of `NECKS`, which makes maps of falling stride where the encoder's have one, as a transformer's.
      reconstruction: a second head, which reconstructs the image.
      of_layers: `rngs`, and `dtype` of the computation; the result is float32 always.

    Raises:
      InputError: there is not one width for every block, or the neck cannot be made.

    Attributes:
      takes: positions of the encoder's stages that it looks at.

    Reference: F-CAM (WACV 2022), Fig. 2 and section 4.1; Ronneberger et al., U-Net, MICCAI 2015.
    """

    # The second head is for training alone: it may be in the file or in the module, in both or in neither.
    weight_names: ClassVar[tuple[Names, ...]] = (
        of_torch("the F-CAM program's decoder", decoder_name, "reconstruction_head.", added=("reconstruction_head.",)),
    )

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        widths: Sequence[int] = (),
        *,
        center: bool = False,
        neck: str = "reassemble",
        reconstruction: bool = False,
        **of_layers: Any,
    ):
        self.neck: Neck | None = NECKS[neck](channels, strides, **of_layers) if is_plain(strides) else None
        if self.neck is not None:
            channels, strides = self.neck.channels, self.neck.strides
        self.skips = skips_of(strides, full_size=self.neck is not None)
        used = {*(index for index in self.skips if index is not None), len(strides) - 1}
        self.takes = tuple(sorted(used)) if self.neck is None else self.neck.takes
        blocks = len(self.skips)
        if isinstance(widths, int | str) or not all(isinstance(width, int) and width > 0 for width in widths):
            raise InputError(f"widths are {widths!r:.100}; they must be whole numbers from 1, one for each block")
        widths = tuple(widths) or (*WIDTHS, *[WIDTHS[-1]] * blocks)[:blocks]
        if len(widths) != blocks:
            which = f"{', '.join(map(str, widths))}, {len(widths)} of them"
            needed = f"from this encoder's top stage to the image there are {blocks} blocks, which need one each"
            raise InputError(f"widths are {which}; {needed}")
        top = channels[-1]
        added = [ConvBNReLU(top, top, init=KAIMING_FAN_IN, **of_layers) for _ in range(2 if center else 0)]
        self.center = nnx.List(added)
        inputs = (top, *widths[:-1])
        skips = [0 if index is None else channels[index] for index in self.skips]
        self.blocks = nnx.List([UpBlock(*sizes, **of_layers) for sizes in zip(inputs, skips, widths, strict=True)])
        self.head = _head(widths[-1], REGIONS, of_layers["rngs"])
        # After all others, whose initial weights do not depend on whether there is this one.
        self.reconstruction = _head(widths[-1], COLOURS, of_layers["rngs"]) if reconstruction else None

    def __call__(self, stages: Sequence[Map | None], size: tuple[int, int], *, train: bool) -> Float[Array, "b h w 2"]:
        """Scores of background and foreground before softmax, at the image's height and width.

        `stages` are the encoder's, from high to low resolution, of which those that it `takes` must be there; with
        `train`, BatchNorm takes the batch's statistics and updates the running ones.
        """
        return _resized(self.head(self._features(stages, train=train)), size)

    def with_image(
        self, stages: Sequence[Map | None], size: tuple[int, int], *, train: bool
    ) -> tuple[Float[Array, "b h w 2"], Float[Array, "b h w 3"] | None]:
        """The scores, and the image that is reconstructed beside them, in [0, 1]; None without a head for it.

        A sigmoid keeps it in the image's range, and lets it start at grey. Arguments are those of a call.
        """
        x = self._features(stages, train=train)
        image = None if self.reconstruction is None else jax.nn.sigmoid(_resized(self.reconstruction(x), size))
        return _resized(self.head(x), size), image

    def _features(self, stages: Sequence[Map | None], *, train: bool) -> Map:
        if self.neck is not None:
            stages = self.neck(stages, train=train)
        x = stages[-1]
        assert x is not None
        for layer in self.center:
            x = layer(x, train=train)
        for block, index in zip(self.blocks, self.skips, strict=True):
            x = kept(block(x, None if index is None else stages[index], train=train))
        return x


def skips_of(strides: Sequence[int], full_size: bool = False) -> tuple[int | None, ...]:
    """Which stage every block of a decoder joins, from the top stage upwards; None where it only doubles the map.

    With `full_size` the first stage has the image's size and is joined, too.
    """
    below = strides[-1]
    skips: list[int | None] = []
    for index in reversed(range(len(strides) - 1)):
        if strides[index] > 1 or full_size:
            skips += [*[None] * (_doublings(below, strides[index]) - 1), index]
            below = strides[index]
    return (*skips, *[None] * (0 if full_size else _doublings(below, 1)))


def _doublings(below: int, above: int) -> int:
    """How often a map of one stride is doubled to reach another stride, at least once."""
    return max(math.ceil(math.log2(below / above)), 1)


def _head(channels_in: int, channels_out: int, rngs: nnx.Rngs) -> nnx.Conv:
    # Float32: few channels, so it costs nothing, and thresholds need the bits.
    init = jax.nn.initializers.glorot_uniform()
    return nnx.Conv(channels_in, channels_out, (3, 3), padding=1, kernel_init=init, dtype=jnp.float32, rngs=rngs)


def _resized(x: Float[Array, "b _ _ c"], size: tuple[int, int]) -> Float[Array, "b h w c"]:
    return x if x.shape[1:3] == size else resize_align_corners(x, size)
