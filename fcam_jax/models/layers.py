"""Building blocks of the networks: convolutions with explicit padding, activations, pooling and resizing.

Everything is NHWC. Parameters are float32; `dtype` is what the activations are computed in.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from fcam_jax.models.batch_norm import BatchNorm
from fcam_jax.models.interpolation import linear, weights_at

Side = int | tuple[int, int]  # of a kernel, or its height and width
Padding = int | str | None  # zeros on every side of a map, "SAME" (TensorFlow's), or None for half the kernel's span
KAIMING_FAN_OUT = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")
KAIMING_FAN_IN = jax.nn.initializers.variance_scaling(2.0, "fan_in", "uniform")


def conv(
    channels_in: int,
    channels_out: int,
    side: Side,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: Padding = None,
    groups: int = 1,
    bias: bool = False,
    init: Initializer = KAIMING_FAN_OUT,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Convolution whose kernel has the given side, or height and width, with zeros around the map.

    These are as many as `padding` says on every side, or XLA's ``"SAME"``; by default half the span of the kernel, as
    PyTorch's networks pad. The values under the kernel are `dilation` apart. Each of the `groups` of output channels
    sees its own group of input channels alone. A bias starts at 0.
    """
    sides = (side, side) if isinstance(side, int) else side
    convolve: Callable[..., Array] = jax.lax.conv_general_dilated if groups == 1 else _in_groups
    if sides == (1, 1) and padding is None and groups == 1:
        convolve = _product
    return nnx.Conv(
        channels_in,
        channels_out,
        sides,
        stride,
        kernel_dilation=dilation,
        padding=[(dilation * (length // 2),) * 2 for length in sides] if padding is None else padding,
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=init,
        conv_general_dilated=convolve,
        dtype=dtype,
        rngs=rngs,
    )


def _product(inputs: Array, kernel: Array, strides: Sequence[int], padding: object, **settings: Any) -> Array:
    """A 1x1 convolution without padding as the matrix product that it is, which CPUs do up to twice as fast."""
    down, across = strides
    seen = inputs[:, ::down, ::across]
    # Two axes each, so that the gradients are products of the same arrays: XLA would transpose maps of four axes.
    rows = seen.reshape(math.prod(seen.shape[:-1]), seen.shape[-1])
    given = {name: settings.get(name) for name in ("precision", "preferred_element_type")}
    product = jnp.matmul(rows, kernel[0, 0], **given)
    return product.reshape(*seen.shape[:-1], kernel.shape[-1])


_JOINED = 32  # channels from which on a convolution with some zeros is no faster on a CPU than one of half as many


def _in_groups(
    inputs: Array, kernel: Array, strides: Sequence[int], padding: Any, *, feature_group_count: int, **settings: Any
) -> Array:
    """A convolution in groups, which on CPUs is one convolution after the other, each of several groups at once.

    The kernel of these is zero where input and output are not of one group. XLA's own gradient of a convolution in
    groups takes a hundred times as long there.
    """
    width = inputs.shape[-1] // feature_group_count
    together = math.gcd(feature_group_count, max(1, _JOINED // width))

    def one_by_one(inputs: Array, kernel: Array) -> Array:
        height, across, _, channels_out = kernel.shape
        apart = kernel.reshape(height, across, width, -1, together, channels_out // feature_group_count)
        # From g groups in each of n convolutions to as many blocks on a diagonal.
        blocks = jnp.einsum("hwingo,gk->nhwgiko", apart, jnp.eye(together, dtype=kernel.dtype))
        kernels = blocks.reshape(-1, height, across, together * width, channels_out // len(blocks))
        parts = jnp.split(inputs, len(kernels), axis=-1)
        done = [
            jax.lax.conv_general_dilated(x, k, strides, padding, **settings)
            for x, k in zip(parts, kernels, strict=True)
        ]
        return jnp.concatenate(done, axis=-1)

    def at_once(inputs: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            inputs, kernel, strides, padding, feature_group_count=feature_group_count, **settings
        )

    return jax.lax.platform_dependent(inputs, kernel, cpu=one_by_one, default=at_once)


@jax.custom_jvp
def relu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """ReLU whose gradient asks the result for the sign.

    That is kept anyway for the next layer, so that x itself need not be. Behind BatchNorm it is the other way round:
    there x follows from what is kept. The gradient at a NaN is that of what comes behind, not 0.
    """
    return jnp.maximum(x, 0)


# Not result > 0: XLA makes x > 0 of it, and keeps x.
relu.defjvps(lambda tangent, result, _: jnp.where(result != 0, tangent, 0))


@jax.custom_jvp
def gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """GELU, computed in float32 at least; for its gradient its slope is kept, in the type of x, and nothing else.

    $$ y = x\\, \\Phi(x), \\quad \\Phi(x) = \\tfrac12 \\Bigl(1 + \\mathrm{erf}\\frac{x}{\\sqrt 2}\\Bigr), \\quad
       \\frac{dy}{dx} = \\Phi(x) + \\frac{x}{\\sqrt{2 \\pi}}\\, e^{-x^2 / 2} $$

    In float32 it is off by up to 7e-7 where x is below -4: erf is near -1 there, and what is left of it is rounding.

    Reference: Hendrycks and Gimpel, Gaussian error linear units, arXiv 1606.08415.
    """
    wide = _wide(x)
    return (wide * _normal(wide)).astype(x.dtype)


@gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    wide = _wide(x)
    below = _normal(wide)
    slope = below + wide * jnp.exp(-0.5 * wide * wide) * (2 * math.pi) ** -0.5
    return (wide * below).astype(x.dtype), tangent * slope.astype(x.dtype)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _normal(x: Array) -> Array:
    """The distribution function of the normal distribution."""
    return 0.5 * (1 + jax.lax.erf(x * 0.5**0.5))


class ConvBNReLU(nnx.Module):
    """Convolution without bias, BatchNorm, ReLU; `of_layers` is `dtype`, `rngs`, and what else `conv` takes."""

    def __init__(self, channels_in: int, channels_out: int, *, side: Side = 3, epsilon: float = 1e-5, **of_layers: Any):
        self.conv = conv(channels_in, channels_out, side, **of_layers)
        of_norm = {name: value for name, value in of_layers.items() if name in ("dtype", "rngs")}
        self.bn = BatchNorm(channels_out, epsilon=epsilon, **of_norm)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b _ _ _"]:
        """Apply the three in order."""
        return nnx.relu(self.bn(self.conv(x), train=train))


def max_pool(
    x: Float[Array, "b h w c"], *, stride: int, padding: int, dilation: int = 1, ceil: bool = False
) -> Float[Array, "b _ _ c"]:
    """Maximum over 3x3 windows of values `dilation` apart; what is padded, so much on every side, never wins.

    With `ceil` a last, incomplete window counts (PyTorch's ``ceil_mode``): an even side n at stride 2 and padding 1
    becomes n/2 + 1.
    """
    spans = [side + 2 * padding - 2 * dilation - 1 for side in x.shape[1:3]]
    pads = [(padding, padding + (-span % stride if ceil else 0)) for span in spans]
    if dilation == 1:
        return nnx.max_pool(x, (3, 3), (stride, stride), padding=pads)
    # Of a dilated window JAX has no gradient.
    x = jnp.pad(x, [(0, 0), *pads, (0, 0)], constant_values=-jnp.inf)
    for axis in (1, 2):
        length = x.shape[axis] - 2 * dilation
        shifted = (
            jax.lax.slice_in_dim(x, start, start + length, stride, axis) for start in (0, dilation, 2 * dilation)
        )
        x = functools.reduce(jnp.maximum, shifted)
    return x


def dropout(x: Float[Array, "b h w c"], rate: float, keys: Key[Array, " b"]) -> Float[Array, "b h w c"]:
    """Zero every value with probability `rate` and divide the others by `1 - rate`; an image's draw is of its own key.

    Reference: Srivastava et al., Dropout, JMLR 2014.
    """
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), 0)


def drop_path(x: Float[Array, "b ..."], rate: float, keys: Key[Array, " b"] | None, branch: int) -> Array:
    """Zero a residual branch of an image as a whole with probability `rate`, else divide it by `1 - rate`.

    Args:
      x: what the branch adds to its input, for every image.
      rate: 0 leaves all as it is, and needs no keys.
      keys: one for every image; its draw hangs on nothing else.
      branch: number of the branch in its network: each draws by itself.

    Reference: Huang et al., Deep networks with stochastic depth, ECCV 2016.
    """
    if not rate:
        return x
    if keys is None:
        raise ValueError("drop path draws: give a key for every image to train with it")
    keep = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, branch), 1 - rate))(keys)
    return jnp.where(keep.reshape(-1, *[1] * (x.ndim - 1)), x / (1 - rate), 0)


def resize_align_corners(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b _ _ c"]:
    """Bilinear resize where the centres of the corner pixels stay corners (PyTorch's ``align_corners=True``).

    $$ y_i = \\sum_j \\max(0, 1 - |i\\,(n-1)/(m-1) - j|)\\, x_j \\quad\\text{along each axis, from n to m samples} $$
    """
    height, width = x.shape[1:3]
    return along_axes(x, _corners_kept(height, size[0]), _corners_kept(width, size[1]))


def upsample_nearest(x: Float[Array, "b h w c"], size: tuple[int, int] | None = None) -> Float[Array, "b _ _ c"]:
    """Every pixel becomes a 2x2 square; where that is not yet `size`, a bilinear resize to it with aligned corners.

    Both are linear, so that the second case is one small matrix along each axis and the large map is never made.
    """
    b, height, width, c = x.shape
    if size in (None, (2 * height, 2 * width)):
        doubled = jnp.broadcast_to(x[:, :, None, :, None], (b, height, 2, width, 2, c))
        return doubled.reshape(b, 2 * height, 2 * width, c)
    rows, columns = (
        _corners_kept(2 * source, target).reshape(target, source, 2).sum(-1)
        for source, target in zip((height, width), size, strict=True)
    )
    return along_axes(x, rows, columns)


def _corners_kept(source: int, target: int) -> Float[np.ndarray, "target source"]:
    return weights_at(np.linspace(0, source - 1, target), source, linear)


def along_axes(
    x: Float[Array, "b h w c"], rows: Float[np.ndarray, "new_h h"], columns: Float[np.ndarray, "new_w w"]
) -> Float[Array, "b new_h new_w c"]:
    """Every column times one matrix and every row times another.

    In full precision: on accelerators the default would round float32 maps to fewer bits.
    """
    exact = jax.lax.Precision.HIGHEST
    x = jnp.einsum("ih,bhwc->biwc", jnp.asarray(rows, x.dtype), x, precision=exact)
    return jnp.einsum("jw,biwc->bijc", jnp.asarray(columns, x.dtype), x, precision=exact)
