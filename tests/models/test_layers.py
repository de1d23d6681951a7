"""The building blocks against numpy's interpolation and XLA's grouped convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import ndimage

from fcam_jax.models.layers import (
    conv,
    drop_path,
    dropout,
    gelu,
    max_pool,
    relu,
    resize_align_corners,
    upsample_nearest,
)


def maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def interpolated(x, size):
    """Aligned corners written with numpy's piecewise linear interpolation, one axis after the other."""
    for axis, target in zip((1, 2), size, strict=True):
        source = x.shape[axis]
        positions = np.arange(target) * (source - 1) / max(target - 1, 1)
        x = np.apply_along_axis(lambda line, p=positions, n=source: np.interp(p, np.arange(n), line), axis, x)
    return x


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("stride", "bias"), [(1, False), (2, True)])
def test_a_1x1_convolution_is_xlas_in_value_and_gradient(stride, bias, dtype):
    layer = conv(5, 7, 1, stride=stride, bias=bias, dtype=dtype, rngs=nnx.Rngs(0))
    x = jnp.asarray(maps(2, 6, 9, 5))

    def xla(kernel, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x.astype(dtype), kernel.astype(dtype), (stride, stride), "VALID", dimension_numbers=numbers
        )

    def ours(kernel, x):
        changed = nnx.clone(layer)
        changed.kernel[...] = kernel
        return changed(x)

    kernel = layer.kernel[...]
    assert ours(kernel, x).dtype == dtype and ours(kernel, x).shape == (2, -(-6 // stride), -(-9 // stride), 7)
    tolerance = 1e-5 if dtype == jnp.float32 else 0.05
    np.testing.assert_allclose(ours(kernel, x).astype(jnp.float32), xla(kernel, x).astype(jnp.float32), atol=tolerance)
    loss = [jax.grad(lambda k, v, of=of: (of(k, v).astype(jnp.float32) ** 2).sum(), (0, 1)) for of in (ours, xla)]
    for own, expected in zip(*jax.jit(lambda k, v: [one(k, v) for one in loss])(kernel, x), strict=True):
        np.testing.assert_allclose(own, expected, atol=20 * tolerance, rtol=20 * tolerance)


@pytest.mark.parametrize(
    "source, target", [((4, 6), (9, 5)), ((57, 29), (29, 57)), ((1, 3), (4, 1)), ((5, 5), (1, 1)), ((7, 8), (7, 8))]
)
def test_resize_with_aligned_corners_is_linear_interpolation_between_corners(source, target):
    x = maps(2, *source, 3)
    resized = resize_align_corners(jnp.asarray(x), target)
    assert resized.shape == (2, *target, 3)
    np.testing.assert_allclose(resized, interpolated(x, target), atol=1e-5)


def test_nearest_upsampling_repeats_pixels():
    x = maps(2, 3, 5, 4)
    np.testing.assert_array_equal(upsample_nearest(jnp.asarray(x)), x.repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize("size", [(6, 10), (3, 5), (5, 9), (7, 11), (6, 9), (1, 1)])
def test_upsampling_to_a_size_is_nearest_followed_by_the_resize(size):
    x = maps(2, 3, 5, 4)
    expected = interpolated(x.repeat(2, axis=1).repeat(2, axis=2), size)
    np.testing.assert_allclose(upsample_nearest(jnp.asarray(x), size), expected, atol=1e-5)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("stride, padding", [(1, 1), (2, 1), (2, 0)])
@pytest.mark.parametrize("size", [(112, 57), (7, 8), (4, 3), (5, 6)])
def test_max_pool_takes_the_windows_that_pytorch_takes(size, stride, padding, ceil):
    x = maps(2, *size, 3) - 10  # below zero, so that a padding by zeros would show

    def starts(n):
        # PyTorch's rule: windows start at every stride-th position; with ceil mode the last may reach beyond the
        # padding, as long as it starts within the map or the padding before it.
        whole = range(-padding, n + padding - 2, stride)
        after = whole[-1] + stride
        return [*whole, after] if ceil and whole[-1] + 3 < n + padding and after < n else list(whole)

    expected = np.array(
        [
            [x[:, max(i, 0) : i + 3, max(j, 0) : j + 3].max(axis=(1, 2)) for j in starts(size[1])]
            for i in starts(size[0])
        ]
    ).transpose(2, 0, 1, 3)
    found = max_pool(jnp.asarray(x), stride=stride, padding=padding, ceil=ceil)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [2, 4])
def test_a_dilated_max_pool_is_one_of_every_second_or_fourth_value(dilation, stride):
    x = jnp.asarray(maps(2, 16, 12, 3) - 10)
    found = max_pool(x, stride=1, padding=dilation, dilation=dilation)
    for row, column in np.ndindex(dilation, dilation):
        phase = slice(None), slice(row, None, dilation), slice(column, None, dilation)
        np.testing.assert_array_equal(found[phase], max_pool(x[phase], stride=1, padding=1))
    strided = max_pool(x, stride=stride, padding=dilation, dilation=dilation)
    np.testing.assert_array_equal(strided, found[:, ::stride, ::stride])
    gradient = jax.jit(jax.grad(lambda x: max_pool(x, stride=1, padding=dilation, dilation=dilation).sum()))(x)
    assert gradient.sum() == found.size and (gradient >= 0).all()


@pytest.mark.parametrize("padding", [None, "SAME", 1])
def test_a_dilated_convolution_has_zeros_between_the_values_of_its_kernel(padding):
    layer = conv(2, 3, 3, dilation=2, padding=padding, rngs=nnx.Rngs(0))
    spread = conv(2, 3, 5, padding=padding, rngs=nnx.Rngs(0))
    spread.kernel[...] = jnp.zeros((5, 5, 2, 3)).at[::2, ::2].set(layer.kernel[...])
    x = jnp.asarray(maps(2, 7, 8, 2))
    np.testing.assert_allclose(layer(x), spread(x), atol=1e-5)


@pytest.mark.slow
def test_groups_of_channels_are_convolutions_side_by_side():
    layer = conv(6, 12, 3, groups=3, rngs=nnx.Rngs(0))
    x, parts = jnp.asarray(maps(2, 5, 6, 6)), []
    for group in range(3):
        own = conv(2, 4, 3, rngs=nnx.Rngs(0))
        own.kernel[...] = layer.kernel[..., 4 * group : 4 * group + 4]
        parts.append(own(x[..., 2 * group : 2 * group + 2]))
    np.testing.assert_allclose(layer(x), jnp.concatenate(parts, -1), atol=1e-5)
    pointwise = conv(6, 12, 1, groups=3, rngs=nnx.Rngs(0))
    expected = jnp.einsum("bhwgi,igo->bhwgo", x.reshape(2, 5, 6, 3, 2), pointwise.kernel[0, 0].reshape(2, 3, 4))
    np.testing.assert_allclose(pointwise(x), expected.reshape(2, 5, 6, 12), atol=1e-5)


@pytest.mark.parametrize("side", [3, (1, 7), (7, 1), 1])
def test_a_convolution_is_padded_by_half_its_kernel_and_adds_its_bias(side):
    layer = conv(2, 3, side, bias=True, dtype=jnp.float32, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(3.0)
    kernel = np.asarray(layer.kernel[...], np.float64)
    x = maps(1, 5, 6, 2)
    found = layer(jnp.asarray(x))
    results = [
        sum(ndimage.correlate(x[0, :, :, c].astype(np.float64), kernel[:, :, c, k], mode="constant") for c in range(2))
        + k
        for k in range(3)
    ]
    expected = np.stack(results, axis=-1)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.slow
def test_dropout_keeps_the_mean_and_draws_by_image():
    x = jnp.ones((4, 32, 32, 8))
    keys = jax.random.split(jax.random.key(0), 4)
    y = np.asarray(dropout(x, 0.25, keys))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    np.testing.assert_allclose(y.mean((1, 2, 3)), 1, atol=0.03)
    np.testing.assert_array_equal(dropout(x[:1], 0.25, keys[2:3])[0], y[2])
    assert (y[0] != y[1]).any()


@pytest.mark.slow
def test_drop_path_keeps_the_mean_and_draws_by_image_and_branch():
    x = jnp.ones((1000, 2, 3), jnp.bfloat16)
    keys = jax.random.split(jax.random.key(0), 1000)
    y = drop_path(x, 0.25, keys, 1)
    assert y.dtype == x.dtype
    y = np.asarray(y, np.float32)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], y.shape))  # the whole of an image or nothing
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-2)
    np.testing.assert_allclose((y[:, 0, 0] > 0).mean(), 0.75, atol=0.05)
    np.testing.assert_array_equal(drop_path(x[:1], 0.25, keys[7:8], 1)[0], y[7])
    assert 0.5 < (np.asarray(drop_path(x, 0.25, keys, 2))[:, 0, 0] == y[:, 0, 0]).mean() < 0.75  # 5/8 by chance
    np.testing.assert_array_equal(drop_path(x, 0.0, None, 1), x)
    with pytest.raises(ValueError, match="drop path"):
        drop_path(x, 0.25, None, 1)


@pytest.mark.parametrize(
    ("channels_in", "channels_out", "groups", "stride", "dilation"),
    [(128, 64, 32, 2, 1), (128, 128, 2, 1, 2), (12, 18, 6, 1, 3), (96, 96, 48, 1, 1)],
)
def test_a_convolution_in_groups_is_xlas_in_value_and_gradient(channels_in, channels_out, groups, stride, dilation):
    settings = {"stride": stride, "dilation": dilation, "groups": groups}
    layer = conv(channels_in, channels_out, 3, **settings, dtype=jnp.float32, rngs=nnx.Rngs(0))
    assert layer.kernel.shape == (3, 3, channels_in // groups, channels_out)

    def ours(x, kernel):
        changed = nnx.clone(layer)
        changed.kernel[...] = kernel
        return changed(x)

    def xlas(x, kernel):
        pads, strides, dilations = [(dilation, dilation)] * 2, (stride, stride), (dilation, dilation)
        numbers = ("NHWC", "HWIO", "NHWC")
        settings = {"rhs_dilation": dilations, "dimension_numbers": numbers, "feature_group_count": groups}
        return jax.lax.conv_general_dilated(x, kernel, strides, pads, **settings)

    def results(convolve, x, kernel):
        value, pull_back = jax.vjp(convolve, x, kernel)
        return value, *pull_back(jnp.cos(value))

    both = jax.jit(lambda x, kernel: [results(of, x, kernel) for of in (ours, xlas)])
    for found, expected in zip(*both(maps(2, 5, 6, channels_in), layer.kernel[...]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("ours", "theirs"), [(relu, jax.nn.relu), (gelu, functools.partial(jax.nn.gelu, approximate=False))]
)
def test_activations_are_jax_own_with_both_derivatives(ours, theirs):
    x = jnp.asarray([-7.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 6.0], jnp.float32)
    for times in range(3):
        found, expected = jax.jit(lambda x, both=(ours, theirs): [jax.vmap(one)(x) for one in both])(x)
        np.testing.assert_allclose(found, expected, atol=2e-6, err_msg=str(times))
        ours, theirs = jax.grad(ours), jax.grad(theirs)


def test_gelu_in_bfloat16_is_computed_in_float32():
    x = jnp.linspace(-6, 6, 301).astype(jnp.bfloat16)
    exact = jax.nn.gelu(x.astype(jnp.float32), approximate=False)
    assert gelu(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(gelu(x).astype(jnp.float32), exact, rtol=2**-8, atol=1e-6)


def test_the_gradient_of_relu_needs_no_more_than_its_result():
    compiled = jax.jit(lambda x, g: jax.vjp(relu, x)[1](g)).lower(jnp.zeros(3), jnp.zeros(3)).compile().as_text()
    # XLA sees that a result above 0 is an input above 0.
    assert "direction=NE" in compiled and "direction=GT" not in compiled
