"""InceptionV3, with its last subsamplings removed and new convolutions on top, as localization uses it.

Blocks and layers carry torchvision's names, so that its weights fit without translation. Stages end after Conv2d_2b,
Conv2d_3b, Mixed_5c, Mixed_6e and the last layer.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from fcam_jax.models.encoder import At, Encoder, Keys, Map, Strided, strides_up_to, subsamplings, unchanged
from fcam_jax.models.layers import ConvBNReLU, Side, conv, dropout, max_pool
from fcam_jax.models.pretrained import Pretrained, torchvision
from fcam_jax.models.weight_names import Path, of_torch, torch_name


class _Layer(NamedTuple):
    name: str
    channels: int
    side: Side = 1
    stride: int = 1
    padding: int | None = None  # zeros on every side; None for half the kernel


class _Pool(NamedTuple):
    """3x3 pooling: the maximum, or the mean at every place that counts the zeros around the map."""

    kind: str
    stride: int = 1
    padding: int = 1


# Steps one after the other; layers side by side share their input, and their results are joined.
_Branch = tuple[_Layer | _Pool | tuple[_Layer, ...], ...]

_ROW, _COLUMN = (1, 7), (7, 1)  # pairs of these stand for 7x7 kernels


def _chain(name: str, *layers: tuple[Any, ...]) -> _Branch:
    """Layers one after the other, which are numbered where there are several: channels, side, stride and padding."""
    return tuple(_Layer(f"{name}_{n}" if len(layers) > 1 else name, *layer) for n, layer in enumerate(layers, 1))


def _pooled(channels: int) -> _Branch:
    return (_Pool("mean"), _Layer("branch_pool", channels))


def _fork(stem: str) -> tuple[_Layer, ...]:
    return _Layer(f"{stem}a", 384, (1, 3)), _Layer(f"{stem}b", 384, (3, 1))


def _block_a(pool_channels: int) -> tuple[_Branch, ...]:
    return (
        _chain("branch1x1", (64,)),
        _chain("branch5x5", (48,), (64, 5)),
        _chain("branch3x3dbl", (64,), (96, 3), (96, 3)),
        _pooled(pool_channels),
    )


def _block_b(stride: int, padding: int) -> tuple[_Branch, ...]:
    return (
        _chain("branch3x3", (384, 3, stride, padding)),
        _chain("branch3x3dbl", (64,), (96, 3), (96, 3, stride, padding)),
        (_Pool("max", stride, padding),),
    )


def _block_c(width: int) -> tuple[_Branch, ...]:
    return (
        _chain("branch1x1", (192,)),
        _chain("branch7x7", (width,), (width, _ROW), (192, _COLUMN)),
        _chain("branch7x7dbl", (width,), (width, _COLUMN), (width, _ROW), (width, _COLUMN), (192, _ROW)),
        _pooled(192),
    )


_BLOCK_D: tuple[_Branch, ...] = (
    _chain("branch3x3", (192,), (320, 3, 2, 0)),
    _chain("branch7x7x3", (192,), (192, _ROW), (192, _COLUMN), (192, 3, 2, 0)),
    (_Pool("max", 2, 0),),
)
_BLOCK_E: tuple[_Branch, ...] = (
    _chain("branch1x1", (320,)),
    (_Layer("branch3x3_1", 384), _fork("branch3x3_2")),
    (*_chain("branch3x3dbl", (448,), (384, 3)), _fork("branch3x3dbl_3")),
    _pooled(192),
)
# What each stage computes after its pooling, but for the new layers on top; the last one is of the published network.
_STAGES = (
    ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
    ("Conv2d_3b_1x1",),
    ("Mixed_5b", "Mixed_5c"),
    ("Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)


class Mixed(nnx.Module):
    """An Inception block: several branches on the same input, joined along the channels, which are `channels` then."""

    def __init__(self, channels_in: int, branches: tuple[_Branch, ...], *, dilation: int = 1, **of_layers: Any):
        self.branches, self.dilation = branches, dilation
        self.channels = 0
        for branch in branches:
            channels = channels_in
            for step in branch:
                layers = (step,) if isinstance(step, _Layer) else () if isinstance(step, _Pool) else step
                for layer in layers:
                    setattr(self, layer.name, _convolution(channels, layer, dilation=dilation, **of_layers))
                channels = sum(layer.channels for layer in layers) or channels
            self.channels += channels

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b _ _ _"]:
        """Join the results of all branches."""
        return jnp.concatenate([self._follow(branch, x, train) for branch in self.branches], axis=-1)

    def _follow(self, branch: _Branch, x: Array, train: bool) -> Array:
        for step in branch:
            if isinstance(step, _Layer):
                x = getattr(self, step.name)(x, train=train)
            elif not isinstance(step, _Pool):
                x = jnp.concatenate([getattr(self, layer.name)(x, train=train) for layer in step], axis=-1)
            elif step.kind == "mean":
                x = _mean_pool(x, self.dilation)
            else:
                x = max_pool(x, stride=step.stride, padding=step.padding)
        return x


def _mean_pool(x: Array, dilation: int) -> Array:
    # A NumPy zero: of a traced one JAX does not know that it begins a sum, and a sum alone has a gradient.
    zero, around, window = np.zeros((), x.dtype), (dilation, dilation), (1, 3, 3, 1)
    apart, padding = (1, dilation, dilation, 1), ((0, 0), around, around, (0, 0))
    sums = jax.lax.reduce_window(x, zero, jax.lax.add, window, (1, 1, 1, 1), padding, window_dilation=apart)
    return sums / 9


def _convolution(channels: int, layer: _Layer, **of_layers: Any) -> ConvBNReLU:
    _, outputs, side, stride, padding = layer
    return ConvBNReLU(channels, outputs, side=side, stride=stride, padding=padding, epsilon=1e-3, **of_layers)


def _name(path: Path) -> str:
    # The new convolutions follow a dropout in a list.
    return torch_name((path[0], 1, path[1]) if str(path[0]).startswith("SPG_A3") else path)


class InceptionV3(Encoder):
    """InceptionV3 without its pooling and classification layer.

    At a final stride of 8 or 16 this is the network of weakly supervised localization: cut after Mixed_6e, followed by
    new blocks {dropout .5, 3x3 convolution, ReLU} with `top` channels, of which there may be none; every 3x3
    convolution and max-pool is padded by 1, and the two max-pools of the stem count their last window (so 224 gives
    112, 57, 29). Mixed_6a halves the map at 16, not at 8. At 32 it is the classification network as published, with
    unpadded layers, Mixed_7a to 7c and no new layer; its images, of a side of 75 pixels at least, are then scaled to
    [-1, 1], as its weights were trained. With `dilate` every second cell at 8, from the first on, is one at 16.

    Differs from: at 8 and 16 the images are normalised with ImageNet's mean and deviation, as the authors of F-CAM
      do, although the published weights were trained on [-1, 1].

    Reference: Szegedy et al., Rethinking the Inception architecture, CVPR 2016, Table 1; F-CAM, section 4.1; Zhang et
      al., Self-produced guidance (SPG), ECCV 2018, for the layers on top.
    """

    Conv2d_4a_3x3: ConvBNReLU
    for_methods = ("top",)
    pretrained = (
        *torchvision("Inception_V3", IMAGENET1K_V1="inception_v3_google-0cc3c7bd.pth", side=299),
        Pretrained("timm:inception_v3.tf_in1k", "Apache-2.0", side=299),
    )
    weight_names = (
        of_torch("torchvision's InceptionV3", _name, "AuxLogits.", "Mixed_7", added=("SPG_A3_",)),
        of_torch("the F-CAM program's InceptionV3", _name, "features."),
    )

    def __init__(
        self, *, final_stride: int = 8, dilate: bool = False, top: Sequence[int] = (1024, 1024), **of_layers: Any
    ):
        strides, dilation = strides_up_to(final_stride), subsamplings(final_stride, dilate)[3].inner
        self.plain = final_stride == 32
        if self.plain:
            self.mean = self.std = (127.5, 127.5, 127.5)
        edge = 0 if self.plain else 1  # padding of layers that the original network leaves unpadded
        stem = (
            _Layer("Conv2d_1a_3x3", 32, 3, 2, edge),
            _Layer("Conv2d_2a_3x3", 32, 3, padding=edge),
            _Layer("Conv2d_2b_3x3", 64, 3),
            _Layer("Conv2d_3b_1x1", 80),
            _Layer("Conv2d_4a_3x3", 192, 3, padding=edge),
        )
        channels = 3
        for layer in stem:
            setattr(self, layer.name, _convolution(channels, layer, **of_layers))
            channels = layer.channels
        blocks = [_block_a(32), _block_a(64), _block_a(64), _block_b(strides[3] // strides[2], edge)]
        blocks += [_block_c(128), _block_c(160), _block_c(160), _block_c(192), _BLOCK_D, _BLOCK_E, _BLOCK_E]
        names = [name for stage in _STAGES for name in stage if name.startswith("Mixed_")]
        for name, branches in zip(names[: None if self.plain else 8], blocks, strict=False):
            rate = dilation if name in _STAGES[3][2:] else 1  # what comes after Mixed_6a
            block = Mixed(channels, branches, dilation=rate, **of_layers)
            setattr(self, name, block)
            channels = block.channels
        new = () if self.plain else tuple(top)
        self.new_layers = tuple(f"SPG_A3_{number}b" for number in range(1, 1 + len(new)))
        for name, width in zip(self.new_layers, new, strict=True):
            setattr(self, name, conv(channels, width, 3, dilation=dilation, bias=True, **of_layers))
            channels = width
        # Without anything on top, Mixed_6e ends the last stage.
        self.channels = (64, 80, 288, 768, channels)[: None if self.plain or new else 4]
        self.strides = strides[: len(self.channels)]
        halving, unit, mixed = (Strided(3, stride, edge) for stride in (2, 1, strides[3] // strides[2]))
        last = (halving,) if self.plain else ()
        self.strided = ((halving, unit), (halving,), (unit, halving), (mixed,), last)[: len(self.channels)]

    def stage(self, index: int, x: Map, *, train: bool, rng: Keys = None, at: At = unchanged) -> Map:
        if index == 4 and not self.plain:
            return self._top(x, train, rng, at)
        if index == 2:
            x = self.Conv2d_4a_3x3(x, train=train)
        if index in (1, 2):
            x = at(f"pool{index}", max_pool(x, stride=2, padding=0 if self.plain else 1, ceil=not self.plain))
        for name in _STAGES[index]:
            x = at(name, getattr(self, name)(x, train=train))
        return x

    def _top(self, x: Array, train: bool, rng: Array | None, at: At) -> Array:
        for number, name in enumerate(self.new_layers):
            if train:
                if rng is None:
                    raise ValueError("InceptionV3 has dropout: give a key for every image to train it")
                x = dropout(x, 0.5, jax.vmap(jax.random.fold_in, (0, None))(rng, number))
            x = at(name, nnx.relu(getattr(self, name)(x)))
        return x
