"""Depthwise convolutions: on CPUs as sums of shifted products, several times faster there than XLA's grouped ones.

A GPU's library and a TPU's compiler know the grouped one. The sums would go through memory for every shift there.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fcam_jax.models.layers import Padding

_Pads = tuple[tuple[int, int], tuple[int, int]]  # zeros before and after the rows, and the columns


class DepthwiseConv(nnx.Module):
    """Convolution of every channel by its own kernel, with zeros around the map; kernels are [side, side, c, 1].

    $$ y_{pc} = b_c + \\sum_{ij} k_{ijc}\\, x_{sp + d (i,j), c} $$

    with stride s and dilation d. Zeros are as many as `padding` says on every side, or TensorFlow's ``"SAME"``; by
    default half the span of the kernel, as PyTorch's networks pad. A bias, if there is one, starts at 0.
    """

    def __init__(
        self,
        channels: int,
        side: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = None,
        bias: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        init = jax.nn.initializers.normal((2 / side**2) ** 0.5)  # Kaiming's for a fan of one channel
        self.kernel = nnx.Param(init(rngs.params(), (side, side, channels, 1), jnp.float32))
        self.bias: nnx.Param | None = nnx.data(nnx.Param(jnp.zeros(channels)) if bias else None)
        self.side, self.stride, self.dilation, self.padding, self.dtype = side, stride, dilation, padding, dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
        """Convolve every channel by its own kernel."""
        x = x.astype(self.dtype)
        # As varied over the devices as the maps, so that each device has its own share of the gradient.
        zero = jnp.zeros_like(x[0, 0, 0], jnp.float32)
        how = (self.stride, self.dilation, self._pads(x))
        y = jax.lax.platform_dependent(
            x,
            self.kernel[..., 0] + zero,
            cpu=lambda x, kernel: depthwise(x, kernel, *how),
            default=lambda x, kernel: in_groups(x, kernel, *how),
        )
        return y if self.bias is None else y + (self.bias[...] + zero).astype(self.dtype)

    def _pads(self, x: Array) -> _Pads:
        span = self.dilation * (self.side - 1) + 1
        if self.padding == "SAME":
            rows, columns = jax.lax.padtype_to_pads(x.shape[1:3], (span, span), (self.stride, self.stride), "SAME")
            return rows, columns
        around = span // 2 if self.padding is None else int(self.padding)
        return (around, around), (around, around)


def in_groups(
    x: Float[Array, "b h w c"], kernel: Float[Array, "side side c"], stride: int, dilation: int, pads: _Pads
) -> Float[Array, "b _ _ c"]:
    """The convolution of `DepthwiseConv` as XLA's own; the kernel is rounded to the type of x, as `nnx.Conv`'s is."""
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None].astype(x.dtype),
        (stride, stride),
        pads,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def depthwise(
    x: Float[Array, "b h w c"], kernel: Float[Array, "side side c"], stride: int, dilation: int, pads: _Pads
) -> Float[Array, "b _ _ c"]:
    """The convolution of `DepthwiseConv`, summed up in float32 and returned in the type of x.

    The gradient of the kernel, a sum over all positions for each of its places, is taken one sum after the other: XLA
    makes one loop of all of them otherwise, which is three times as slow on CPUs.
    """
    return _sum_of_shifted(x, kernel, stride, dilation, pads)


def _sum_of_shifted(x, kernel, stride, dilation, pads):
    padded, total = _padded(x, pads), jnp.zeros((), jnp.float32)
    rows, columns = (side - dilation * (len(kernel) - 1) for side in padded.shape[1:3])
    for place in np.ndindex(kernel.shape[:2]):
        i, j = (dilation * shift for shift in place)
        total = total + padded[:, i : i + rows : stride, j : j + columns : stride] * kernel[place]
    return total.astype(x.dtype)


def _padded(x: Float[Array, "b h w c"], pads: _Pads) -> Float[Array, "b _ _ c"]:
    """The map with zeros around it; a negative number of them cuts off."""
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])


def _forward(x, kernel, stride, dilation, pads):
    return _sum_of_shifted(x, kernel, stride, dilation, pads), (x, kernel)


def _backward(stride, dilation, pads, kept, gradient):
    x, kernel = kept
    if stride == 1:
        of_x = _of_input(gradient, kernel, x.shape, dilation, pads)
    else:  # spread over all places, most of the gradient were zeros
        (of_x,) = jax.vjp(lambda x: _sum_of_shifted(x, kernel, stride, dilation, pads), x)[1](gradient)
    padded, (b, rows, columns, c) = _padded(x, pads), gradient.shape
    sizes = b, (rows - 1) * stride + 1, (columns - 1) * stride + 1, c

    def of_place(place):
        shifted = jax.lax.dynamic_slice(padded, (0, place[0], place[1], 0), sizes)[:, ::stride, ::stride]
        return (shifted * gradient).astype(jnp.float32).sum(axis=(0, 1, 2))

    places = dilation * jnp.asarray(np.indices(kernel.shape[:2]).reshape(2, -1).T)
    return of_x, jax.lax.map(of_place, places).reshape(kernel.shape).astype(kernel.dtype)


def _of_input(gradient, kernel, shape, dilation, pads):
    """The gradient of the input at a stride of 1: that of the result, convolved by the kernel turned round.

    XLA's own adds up shifted maps one by one, which is 7 times as slow on CPUs for 49 places, and rounds each sum.
    """
    span = dilation * (len(kernel) - 1)
    rows, columns = (
        (span - before, side + before - count)
        for side, count, (before, _) in zip(shape[1:3], gradient.shape[1:3], pads, strict=True)
    )
    return _sum_of_shifted(_padded(gradient, (rows, columns)), kernel[::-1, ::-1], 1, dilation, ((0, 0), (0, 0)))


depthwise.defvjp(_forward, _backward)
