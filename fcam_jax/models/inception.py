"""InceptionV3, with its last subsamplings removed and new convolutions on top, as localization uses it.

Blocks and layers carry torchvision's names, so that its weights fit without translation. Stages end after Conv2d_2b,
Conv2d_3b, Mixed_5c, Mixed_6e and the last layer.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fcam_jax.models.encoder import At, Encoder, Keys, Map, strides_up_to, unchanged
from fcam_jax.models.layers import ConvBNReLU, conv, dropout, max_pool
from fcam_jax.models.weight_names import Path, of_torch, torch_name

_EPSILON = 1e-3  # of every BatchNorm


@dataclasses.dataclass(frozen=True)
class Layer:
    """One convolution of a block, or two that share their input and whose results are joined.

    Attributes:
      name: torchvision's.
      channels: of the result.
      side: side of the kernel, or its height and width.
      stride: step of the kernel.
      padding: zeros on every side; None for half the kernel.
    """

    name: str
    channels: int
    side: int | tuple[int, int] = 1
    stride: int = 1
    padding: int | None = None


@dataclasses.dataclass(frozen=True)
class Pool:
    """3x3 pooling: the maximum, or the mean at stride 1 that counts the zeros of the padding."""

    kind: str
    stride: int = 1
    padding: int = 1


Branch = tuple[Layer | Pool | tuple[Layer, Layer], ...]

_MEAN = Pool("mean")


def _chain(name: str, *layers: tuple[Any, ...]) -> Branch:
    """Layers one after the other, which are numbered where there are several: channels, side, stride and padding."""
    return tuple(Layer(f"{name}_{n}" if len(layers) > 1 else name, *layer) for n, layer in enumerate(layers, 1))


def _block_a(pool_channels: int) -> tuple[Branch, ...]:
    """Branches of Mixed_5b, 5c and 5d."""
    return (
        _chain("branch1x1", (64,)),
        _chain("branch5x5", (48,), (64, 5)),
        _chain("branch3x3dbl", (64,), (96, 3), (96, 3)),
        (_MEAN, Layer("branch_pool", pool_channels)),
    )


def _block_b(stride: int, padding: int) -> tuple[Branch, ...]:
    """Branches of Mixed_6a, which halves the map in the original network."""
    return (
        _chain("branch3x3", (384, 3, stride, padding)),
        _chain("branch3x3dbl", (64,), (96, 3), (96, 3, stride, padding)),
        (Pool("max", stride, padding),),
    )


def _block_c(width: int) -> tuple[Branch, ...]:
    """Branches of Mixed_6b to 6e: 7x7 kernels as pairs of 1x7 and 7x1."""
    row, column = (1, 7), (7, 1)
    return (
        _chain("branch1x1", (192,)),
        _chain("branch7x7", (width,), (width, row), (192, column)),
        _chain("branch7x7dbl", (width,), (width, column), (width, row), (width, column), (192, row)),
        (_MEAN, Layer("branch_pool", 192)),
    )


def _block_d() -> tuple[Branch, ...]:
    """Branches of Mixed_7a, which halves the map."""
    return (
        _chain("branch3x3", (192,), (320, 3, 2, 0)),
        _chain("branch7x7x3", (192,), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, 0)),
        (Pool("max", 2, 0),),
    )


def _block_e() -> tuple[Branch, ...]:
    """Branches of Mixed_7b and 7c."""

    def fork(stem: str) -> tuple[Layer, Layer]:
        return Layer(f"{stem}a", 384, (1, 3)), Layer(f"{stem}b", 384, (3, 1))

    return (
        _chain("branch1x1", (320,)),
        (Layer("branch3x3_1", 384), fork("branch3x3_2")),
        (*_chain("branch3x3dbl", (448,), (384, 3)), fork("branch3x3dbl_3")),
        (_MEAN, Layer("branch_pool", 192)),
    )


class Mixed(nnx.Module):
    """An Inception block: several branches on the same input, joined along the channels.

    Attributes:
      channels: of the result.
    """

    def __init__(self, channels_in: int, branches: tuple[Branch, ...], *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.branches = branches
        self.channels = 0
        for branch in branches:
            channels = channels_in
            for step in branch:
                layers = step if isinstance(step, tuple) else (step,)
                convolutions = [layer for layer in layers if isinstance(layer, Layer)]
                for layer in convolutions:
                    setattr(self, layer.name, _convolution(channels, layer, dtype=dtype, rngs=rngs))
                channels = sum(layer.channels for layer in convolutions) or channels
            self.channels += channels

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b _ _ _"]:
        """Join the results of all branches."""
        return jnp.concatenate([self._follow(branch, x, train) for branch in self.branches], axis=-1)

    def _follow(self, branch: Branch, x: Array, train: bool) -> Array:
        for step in branch:
            if isinstance(step, Pool):
                x = _pool(x, step)
            elif isinstance(step, Layer):
                x = getattr(self, step.name)(x, train=train)
            else:
                x = jnp.concatenate([getattr(self, layer.name)(x, train=train) for layer in step], axis=-1)
        return x


def _convolution(channels: int, layer: Layer, **of_layers: Any) -> ConvBNReLU:
    size: dict[str, Any] = {"side": layer.side, "stride": layer.stride, "padding": layer.padding}
    return ConvBNReLU(channels, layer.channels, **size, epsilon=_EPSILON, **of_layers)


def _pool(x: Array, pool: Pool) -> Array:
    if pool.kind == "mean":
        return nnx.avg_pool(x, (3, 3), padding=[(pool.padding, pool.padding)] * 2)
    return max_pool(x, stride=pool.stride, padding=pool.padding)


def _name(path: Path) -> str:
    # The new convolutions follow a dropout in a list.
    return torch_name((path[0], 1, path[1]) if str(path[0]).startswith("SPG_A3") else path)


class InceptionV3(Encoder):
    """InceptionV3 without its pooling and classification layer.

    At a final stride of 8 or 16 this is the network of weakly supervised localization: cut after Mixed_6e, followed by
    new blocks {dropout .5, 3x3 convolution, ReLU}; every 3x3 convolution and max-pool is padded by 1, and the two
    max-pools of the stem count their last window (so 224 gives 112, 57, 29). Mixed_6a halves the map at 16, not at 8.
    At 32 it is the classification network as published, with unpadded layers, Mixed_7a to 7c and no new layer; its
    images are then scaled to [-1, 1], as its weights were trained.

    Args:
      final_stride: side of the image over the side of the top map.
      top: channels of the new blocks; there may be none, and at a final stride of 32 there never are.
      dtype: compute dtype.
      rngs: source of the initial weights.

    Raises:
      InputError: at a final stride of 32, images of a side below 75 pixels.

    Differs from: at 8 and 16 the images are normalised with ImageNet's mean and deviation, as the authors of F-CAM
      do, although the published weights were trained on [-1, 1].

    Reference: Szegedy et al., Rethinking the Inception architecture, CVPR 2016, Table 1; F-CAM, section 4.1; Zhang et
      al., Self-produced guidance (SPG), ECCV 2018, for the layers on top.
    """

    for_methods = ("top",)
    weight_names = (
        of_torch("torchvision's InceptionV3", _name, "AuxLogits.", "Mixed_7", added=("SPG_A3_",)),
        of_torch("the F-CAM program's InceptionV3", _name, "features."),
    )

    def __init__(
        self,
        *,
        final_stride: int = 8,
        top: Sequence[int] = (1024, 1024),
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        strides = strides_up_to(final_stride)
        self.plain = final_stride == 32
        if self.plain:
            self.mean = self.std = (127.5, 127.5, 127.5)
        edge = 0 if self.plain else 1  # padding of layers that the original network leaves unpadded
        build = functools.partial(_convolution, dtype=dtype, rngs=rngs)
        self.Conv2d_1a_3x3 = build(3, Layer("", 32, 3, stride=2, padding=edge))
        self.Conv2d_2a_3x3 = build(32, Layer("", 32, 3, padding=edge))
        self.Conv2d_2b_3x3 = build(32, Layer("", 64, 3))
        self.Conv2d_3b_1x1 = build(64, Layer("", 80))
        self.Conv2d_4a_3x3 = build(80, Layer("", 192, 3, padding=edge))
        halving = strides[3] // strides[2]
        blocks = {
            "Mixed_5b": _block_a(32),
            "Mixed_5c": _block_a(64),
            "Mixed_5d": _block_a(64),
            "Mixed_6a": _block_b(halving, edge),
            "Mixed_6b": _block_c(128),
            "Mixed_6c": _block_c(160),
            "Mixed_6d": _block_c(160),
            "Mixed_6e": _block_c(192),
        }
        if self.plain:
            blocks |= {"Mixed_7a": _block_d(), "Mixed_7b": _block_e(), "Mixed_7c": _block_e()}
        channels = 192
        for name, branches in blocks.items():
            block = Mixed(channels, branches, dtype=dtype, rngs=rngs)
            setattr(self, name, block)
            channels = block.channels
        new = () if self.plain else tuple(top)
        self.new_layers = tuple(f"SPG_A3_{number}b" for number in range(1, 1 + len(new)))
        for name, width in zip(self.new_layers, new, strict=True):
            setattr(self, name, conv(channels, width, 3, bias=True, dtype=dtype, rngs=rngs))
            channels = width
        # Without anything on top, Mixed_6e ends the last stage.
        self.channels = (64, 80, 288, 768, channels)[: None if self.plain or new else 4]
        self.strides = strides[: len(self.channels)]

    def stage(self, index: int, x: Map, *, train: bool, rng: Keys = None, at: At = unchanged) -> Map:
        """The map of stage `index` from that of the stage before it (from the image for stage 0)."""
        if index == 0:
            names: tuple[str, ...] = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")
        elif index == 1:
            x, names = self._stem_pool(x), ("Conv2d_3b_1x1",)
        elif index == 2:
            x, names = self._stem_pool(self.Conv2d_4a_3x3(x, train=train)), ("Mixed_5b", "Mixed_5c")
        elif index == 3:
            names = ("Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e")
        elif self.plain:
            names = ("Mixed_7a", "Mixed_7b", "Mixed_7c")
        else:
            return self._top(x, train, rng, at)
        for name in names:
            x = at(name, getattr(self, name)(x, train=train))
        return x

    def _stem_pool(self, x: Array) -> Array:
        return max_pool(x, stride=2, padding=0) if self.plain else max_pool(x, stride=2, padding=1, ceil=True)

    def _top(self, x: Array, train: bool, rng: Array | None, at: At) -> Array:
        for number, name in enumerate(self.new_layers):
            if train:
                if rng is None:
                    raise ValueError("InceptionV3 has dropout: give a key for every image to train it")
                x = dropout(x, 0.5, jax.vmap(jax.random.fold_in, (0, None))(rng, number))
            x = at(name, nnx.relu(getattr(self, name)(x)))
        return x
