"""BatchNorm against its equation: over one device, over a mesh's axis, and with statistics that are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

from fcam_jax.errors import InputError
from fcam_jax.models.batch_norm import BatchNorm, freeze_norms
from fcam_jax.models.layers import conv
from fcam_jax.types import DATA_AXIS


def maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_batch_norm_takes_the_statistics_of_the_whole_batch_over_the_mesh_axis():
    norm = BatchNorm(3, rngs=nnx.Rngs(0), dtype=jnp.float32)
    graph, state = nnx.split(norm)
    x = maps(8, 4, 5, 3) * 3 + 1

    def apply(shard):
        copy = nnx.merge(graph, state, copy=True)
        return copy(shard, train=True), nnx.state(copy, nnx.BatchStat)

    y, stats = jax.jit(jax.vmap(apply, axis_name=DATA_AXIS))(jnp.asarray(x).reshape(4, 2, 4, 5, 3))
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y.reshape(x.shape), (x - mean) / np.sqrt(var + 1e-5), atol=1e-4)
    np.testing.assert_allclose(stats["mean"][...], np.tile(0.1 * mean, (4, 1)), atol=1e-5)
    np.testing.assert_allclose(stats["var"][...], np.tile(0.9 + 0.1 * var, (4, 1)), rtol=1e-5)


@pytest.mark.slow
def test_batch_norm_without_a_mesh_takes_the_batch_as_whole():
    norm = BatchNorm(3, rngs=nnx.Rngs(0), dtype=jnp.float32)
    x = maps(8, 4, 5, 3) * 3 + 1
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(x), train=True), expected, atol=1e-4)
    np.testing.assert_allclose(norm.mean[...], 0.1 * mean, atol=1e-5)
    graph, state = nnx.split(norm)

    def of_one_image(x):
        return (nnx.merge(graph, state, copy=True)(x, train=True)[0] ** 2).sum()

    gradient = jax.grad(of_one_image)(jnp.asarray(x))
    np.testing.assert_allclose(gradient.sum((0, 1, 2)), 0, atol=1e-3)


@pytest.mark.slow
def test_frozen_norms_keep_their_statistics_and_learn_by_them():
    network = nnx.List([BatchNorm(3, rngs=nnx.Rngs(0), dtype=jnp.float32)])
    norm = network[0]
    norm.mean.set_value(jnp.array([1.0, -2.0, 0.5]))
    norm.var.set_value(jnp.array([4.0, 0.25, 1.0]))
    freeze_norms(network)
    x = maps(8, 4, 5, 3) * 3 + 1
    expected = (x - [1.0, -2.0, 0.5]) / np.sqrt(np.array([4.0, 0.25, 1.0]) + 1e-5)
    y = norm(jnp.asarray(x), train=True)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(y, norm(jnp.asarray(x), train=False))
    np.testing.assert_array_equal(norm.mean[...], [1.0, -2.0, 0.5])
    np.testing.assert_array_equal(norm.var[...], [4.0, 0.25, 1.0])
    found = nnx.grad(lambda norm: norm(jnp.asarray(x), train=True).sum())(norm)
    np.testing.assert_allclose(found["scale"][...], expected.sum((0, 1, 2)), rtol=1e-4)
    with pytest.raises(InputError, match="List has no BatchNorm"):
        freeze_norms(nnx.List([conv(3, 4, 1, rngs=nnx.Rngs(0))]))


@pytest.mark.slow
def test_gradients_of_batch_norm_are_those_of_its_equation_over_the_mesh_axis():
    norm = BatchNorm(3, rngs=nnx.Rngs(0), dtype=jnp.float32)
    norm.scale[...], norm.bias[...] = jnp.array([0.5, 1.0, 2.0]), jnp.array([0.1, 0.0, -1.0])
    graph, params, stats = nnx.split(norm, nnx.Param, ...)
    params = nnx.to_pure_dict(params)
    x, weights = jnp.asarray(maps(8, 4, 5, 3) * 3 + 1), jnp.asarray(maps(8, 4, 5, 3))

    def of_devices(params, shard, weights):
        y = nnx.merge(graph, params, stats, copy=True)(shard, train=True)
        return jax.lax.psum((weights * jnp.tanh(y)).sum(), DATA_AXIS)

    def of_equation(params, x, weights):
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        y = (x - mean) / jnp.sqrt(var + 1e-5) * params["scale"] + params["bias"]
        return (weights * jnp.tanh(y)).sum()

    mesh = jax.make_mesh((4,), (DATA_AXIS,), axis_types=(AxisType.Auto,))
    spread = PartitionSpec(DATA_AXIS)
    found = jax.jit(
        jax.shard_map(
            jax.grad(of_devices, (0, 1)),
            mesh=mesh,
            in_specs=(PartitionSpec(), spread, spread),
            out_specs=(PartitionSpec(), spread),
        )
    )(params, x, weights)
    expected = jax.grad(of_equation, (0, 1))(params, x, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


def test_batch_norm_at_bfloat16_keeps_the_bits_of_its_running_statistics():
    norm = BatchNorm(1, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    norm.mean[...] = jnp.array([1000.5])  # bfloat16 would round it to 1000
    y = norm(jnp.full((1, 2, 2, 1), 1004.0, jnp.bfloat16), train=False)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), 3.5, rtol=1e-2)
