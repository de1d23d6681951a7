"""The depthwise convolution against XLA's grouped one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.models.depthwise import DepthwiseConv, in_groups
from fcam_jax.models.weight_names import of_torch


def maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def grouped(x, kernel, stride, dilation, padding):
    return jax.lax.conv_general_dilated(
        x,
        kernel.transpose(0, 1, 3, 2),
        (stride, stride),
        padding if padding == "SAME" else [(padding, padding)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@pytest.mark.parametrize(
    ("side", "stride", "dilation", "padding", "size"),
    [
        (3, 1, 1, "SAME", (1, 2)),
        (3, 2, 1, "SAME", (8, 7)),
        (3, 2, 1, None, (8, 7)),
        (5, 2, 1, "SAME", (6, 9)),
        (5, 2, 1, None, (6, 9)),
        (5, 1, 2, "SAME", (5, 4)),
        (3, 1, 4, None, (5, 12)),
        (5, 2, 2, 3, (9, 10)),
        (7, 1, 1, None, (7, 8)),
        (3, 1, 1, 3, (4, 5)),
        (3, 3, 1, 0, (9, 11)),
    ],
)
def test_values_and_gradients_equal_those_of_the_grouped_convolution(side, stride, dilation, padding, size):
    layer = DepthwiseConv(4, side, stride=stride, dilation=dilation, padding=padding, bias=True, rngs=nnx.Rngs(0))
    bias = maps(4)
    zeros = dilation * (side // 2) if padding is None else padding
    structure, variables = nnx.split(layer)

    def ours(x, kernel):
        model = nnx.merge(structure, variables, copy=True)
        model.kernel[...], model.bias[...] = kernel, bias
        return model(x)

    def theirs(x, kernel):
        return grouped(x, kernel, stride, dilation, zeros) + bias

    def result_and_gradients(convolution, x, kernel):
        result, pull_back = jax.vjp(convolution, x, kernel)
        return result, *pull_back(jnp.cos(result))

    @jax.jit
    def all_ways(x, kernel):
        of_accelerators = in_groups(x, kernel[..., 0], stride, dilation, layer._pads(x)) + bias
        return result_and_gradients(ours, x, kernel), result_and_gradients(theirs, x, kernel), of_accelerators

    found, expected, of_accelerators = all_ways(maps(2, *size, 4), layer.kernel[...])
    for own, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, reference, atol=2e-5)
    np.testing.assert_allclose(of_accelerators, expected[0], atol=2e-5)


@pytest.mark.slow
def test_bfloat16_is_summed_up_in_float32():
    layer = DepthwiseConv(2, 7, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.ones((7, 7, 2, 1))
    y = layer(jnp.full((1, 7, 7, 2), 1 + 2**-7))
    assert y.dtype == jnp.bfloat16
    assert y[0, 3, 3, 0] == jnp.bfloat16(49 * (1 + 2**-7))


@pytest.mark.slow
def test_gradients_in_bfloat16_are_rounded_once():
    """Each input takes part in 49 results."""
    layer = DepthwiseConv(2, 7, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.full((7, 7, 2, 1), 1 + 2**-7)
    gradient = jax.grad(lambda x: layer(x).astype(jnp.float32).sum())(jnp.ones((1, 13, 13, 2), jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    assert gradient[0, 6, 6, 0] == jnp.bfloat16(49 * (1 + 2**-7))


def test_kernels_of_pytorch_are_turned_round_and_back():
    names = of_torch("a family", depthwise=True)
    depthwise, full = maps(6, 1, 5, 3), maps(6, 2, 5, 3)
    np.testing.assert_array_equal(names.ours(depthwise), depthwise[:, 0].transpose(1, 2, 0)[..., None])
    np.testing.assert_array_equal(names.ours(full), full.transpose(2, 3, 1, 0))
    for array in (depthwise, full):
        np.testing.assert_array_equal(names.theirs(names.ours(array)), array)
