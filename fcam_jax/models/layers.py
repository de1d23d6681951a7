"""Building blocks of the networks: convolutions with explicit padding, synchronised BatchNorm, pooling and resizing.

Everything is NHWC. Parameters and BatchNorm statistics are float32; `dtype` is what the activations are computed in.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from fcam_jax.types import DATA_AXIS

KAIMING_FAN_OUT = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")
KAIMING_FAN_IN = jax.nn.initializers.variance_scaling(2.0, "fan_in", "uniform")


def conv(
    channels_in: int,
    channels_out: int,
    side: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int | str | None = None,
    bias: bool = False,
    init: Initializer = KAIMING_FAN_OUT,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Convolution with zeros around the map.

    Args:
      channels_in: channels of its input.
      channels_out: channels of its output.
      side: side of the kernel, or its height and width.
      stride: step of the kernel.
      padding: zeros on every side, or XLA's ``"SAME"``; by default half the kernel, as PyTorch's networks pad.
      bias: whether a bias is added; it starts at 0.
      init: initialiser of the kernel.
      dtype: compute dtype.
      rngs: source of the initial weights.
    """
    sides = (side, side) if isinstance(side, int) else side
    pointwise = sides == (1, 1) and padding is None
    return nnx.Conv(
        channels_in,
        channels_out,
        sides,
        stride,
        padding=[(length // 2, length // 2) for length in sides] if padding is None else padding,
        use_bias=bias,
        kernel_init=init,
        conv_general_dilated=_product if pointwise else jax.lax.conv_general_dilated,
        dtype=dtype,
        rngs=rngs,
    )


def _product(
    inputs: Float[Array, "b _ _ c"],
    kernel: Float[Array, "1 1 c d"],
    strides: Sequence[int],
    padding: object,
    **settings: Any,
) -> Float[Array, "b _ _ d"]:
    """A 1x1 convolution without padding as the matrix product that it is, which CPUs do up to twice as fast."""
    down, across = strides
    return jnp.einsum(
        "bhwc,cd->bhwd",
        inputs[:, ::down, ::across],
        kernel[0, 0],
        precision=settings.get("precision"),
        preferred_element_type=settings.get("preferred_element_type"),
    )


class BatchNorm(nnx.BatchNorm):
    """BatchNorm whose training statistics are those of the whole batch, over every device of the mesh axis.

    It normalises in float32 whatever the compute dtype: the running statistics would lose their low bits otherwise.

    Differs from: PyTorch keeps a running variance with Bessel's correction, here (as in Flax and Keras) without.
    """

    def __init__(self, channels: int, *, epsilon: float = 1e-5, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__(channels, momentum=0.9, epsilon=epsilon, dtype=jnp.float32, axis_name=DATA_AXIS, rngs=rngs)
        self.output_dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:  # type: ignore[override]
        """Normalise by the batch and update the running statistics, or (`train=False`) by the running statistics."""
        return super().__call__(x, use_running_average=not train).astype(self.output_dtype)


class ConvBNReLU(nnx.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        side: int | tuple[int, int] = 3,
        stride: int = 1,
        padding: int | None = None,
        epsilon: float = 1e-5,
        init: Initializer = KAIMING_FAN_OUT,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.conv = conv(
            channels_in, channels_out, side, stride=stride, padding=padding, init=init, dtype=dtype, rngs=rngs
        )
        self.bn = BatchNorm(channels_out, epsilon=epsilon, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b _ _ _"]:
        """Apply the three in order."""
        return nnx.relu(self.bn(self.conv(x), train=train))


class DepthwiseConv(nnx.Module):
    """3x3 depthwise convolution with XLA's ``SAME`` padding and without bias; the kernel is [3, 3, c, 1].

    $$ y_{pc} = \\sum_{ij} k_{ijc}\\, x_{sp + (i,j), c} $$

    It is the sum of nine shifted products: XLA's grouped convolution is several times slower on CPUs.
    """

    def __init__(self, channels: int, *, stride: int = 1, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        init = jax.nn.initializers.normal((2 / 9) ** 0.5)  # Kaiming's for a fan of nine
        self.kernel = nnx.Param(init(rngs.params(), (3, 3, channels, 1), jnp.float32))
        self.stride = stride
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
        """Convolve every channel by its own kernel."""
        height, width = x.shape[1:3]
        stride = self.stride
        pads = jax.lax.padtype_to_pads((height, width), (3, 3), (stride, stride), "SAME")
        padded = jnp.pad(x.astype(self.dtype), [(0, 0), *pads, (0, 0)])
        kernel = self.kernel[...].astype(self.dtype)
        rows, columns = -(-height // stride) * stride, -(-width // stride) * stride
        shifted = (
            padded[:, i : i + rows : stride, j : j + columns : stride] * kernel[i, j, :, 0]
            for i in range(3)
            for j in range(3)
        )
        return sum(shifted, start=jnp.zeros((), self.dtype))


def max_pool(x: Float[Array, "b h w c"], *, stride: int, padding: int, ceil: bool = False) -> Float[Array, "b _ _ c"]:
    """Maximum over 3x3 windows; what is padded never wins.

    Args:
      x: maps.
      stride: step of the window.
      padding: positions added on every side.
      ceil: whether a last, incomplete window counts (PyTorch's ``ceil_mode``): an even side n at stride 2 and
        padding 1 becomes n/2 + 1.
    """
    sides = x.shape[1:3]
    extra = [-(side + 2 * padding - 3) % stride if ceil else 0 for side in sides]
    return nnx.max_pool(x, (3, 3), (stride, stride), padding=[(padding, padding + more) for more in extra])


def dropout(x: Float[Array, "b h w c"], rate: float, keys: Key[Array, " b"]) -> Float[Array, "b h w c"]:
    """Zero every value with probability `rate` and divide the others by `1 - rate`; an image's draw is of its own key.

    Reference: Srivastava et al., Dropout, JMLR 2014.
    """
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), 0)


def upsample_nearest(x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    """Every pixel becomes a 2x2 square."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def resize_align_corners(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b _ _ c"]:
    """Bilinear resize where the centres of the corner pixels stay corners (PyTorch's ``align_corners=True``).

    $$ y_i = \\sum_j \\max(0, 1 - |i\\,(n-1)/(m-1) - j|)\\, x_j \\quad\\text{along each axis, from n to m samples} $$

    Args:
      x: maps of any size.
      size: height and width of the result, in pixels.
    """
    height, width = x.shape[1:3]
    return _along_axes(x, _align_corners_matrix(height, size[0]), _align_corners_matrix(width, size[1]))


def upsample_nearest_to(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b _ _ c"]:
    """Nearest x2 upsampling and, where that is not yet `size`, a bilinear resize to it with aligned corners.

    Both are linear, so that the second case is one small matrix along each axis and the large map is never made.
    """
    height, width = x.shape[1:3]
    if size == (2 * height, 2 * width):
        return upsample_nearest(x)
    rows, columns = (
        _align_corners_matrix(2 * source, target).reshape(target, source, 2).sum(-1)
        for source, target in zip((height, width), size, strict=True)
    )
    return _along_axes(x, rows, columns)


def _align_corners_matrix(source: int, target: int) -> Float[np.ndarray, "target source"]:
    positions = np.linspace(0, source - 1, target)
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(source)))


def _along_axes(
    x: Float[Array, "b h w c"], rows: Float[np.ndarray, "new_h h"], columns: Float[np.ndarray, "new_w w"]
) -> Float[Array, "b new_h new_w c"]:
    # Full precision: on accelerators the default would round float32 maps to fewer bits.
    exact = jax.lax.Precision.HIGHEST
    x = jnp.einsum("ih,bhwc->biwc", jnp.asarray(rows, x.dtype), x, precision=exact)
    return jnp.einsum("jw,biwc->bijc", jnp.asarray(columns, x.dtype), x, precision=exact)
