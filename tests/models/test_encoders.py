"""Every encoder keeps the contract; parameter counts are those published for torchvision's and Keras' networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS
from fcam_jax.models.small import Small
from fcam_jax.types import DATA_AXIS


@functools.cache
def abstract(name, **settings):
    """Shapes only: nothing is initialised or computed."""
    return nnx.eval_shape(lambda: ENCODERS[name](rngs=nnx.Rngs(0), **settings))


def stage_shapes(encoder, *size):
    graph, state = nnx.split(encoder)
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    stages = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x, train=False), state, images)
    return [stage.shape for stage in stages]


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_stages_have_the_channels_and_strides_that_the_encoder_states(name):
    encoder = abstract(name)
    assert encoder.strides[-1] == 8
    assert list(encoder.strides) == sorted(encoder.strides)
    expected = [(2, 64 // s, 96 // s, c) for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    assert stage_shapes(encoder, 64, 96) == expected


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v1_075"])
@pytest.mark.parametrize("final_stride, sides", [(8, (8, 8)), (16, (4, 4)), (32, (4, 2))])
def test_final_stride_removes_the_last_subsamplings_only(name, final_stride, sides):
    encoder = abstract(name, final_stride=final_stride)
    assert encoder.strides == (2, 4, 8, 64 // sides[0], final_stride)
    assert [shape[1] for shape in stage_shapes(encoder, 64, 64)] == [32, 16, 8, *sides]


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_odd_sides_round_up(name):
    sides = [shape[1:3] for shape in stage_shapes(abstract(name), 33, 47)]
    assert sides[0] == (17, 24)
    assert sides[-1] == (5, 6)


def test_an_impossible_final_stride_is_named():
    with pytest.raises(InputError, match="8, 16 or 32, not 4"):
        abstract("resnet18", final_stride=4)


@pytest.mark.parametrize(
    "name, parameters",
    [
        # torchvision's totals less the 1000-way layer; Keras' trainable totals without top.
        ("resnet18", 11_689_512 - 513_000),
        ("resnet34", 21_797_672 - 513_000),
        ("resnet50", 23_508_032),
        ("resnet101", 44_549_160 - 2_049_000),
        ("mobilenet_v1_100", 3_206_976),
    ],
)
def test_parameter_counts(name, parameters):
    leaves = jax.tree.leaves(nnx.state(abstract(name), nnx.Param))
    assert sum(leaf.size for leaf in leaves) == parameters


def test_resnets_train_layer4_as_new_and_the_named_path_exists():
    encoder = abstract("resnet50")
    assert encoder.new_layers == ("layer4",)
    assert "layer4" in nnx.state(encoder, nnx.Param)
    assert abstract("small").new_layers == ()


@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_computes_close_to_float32_with_float32_parameters(filled, train):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 16, 16, 3)), jnp.float32)

    def run(dtype):
        graph, state = nnx.split(filled(lambda: Small((4, 8, 8, 16), dtype=dtype, rngs=nnx.Rngs(0))))
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))

        def apply(shard):
            model = nnx.merge(graph, state, copy=True)
            return model(shard, train=train)[-1], nnx.state(model)

        top, after = jax.jit(jax.vmap(apply, axis_name=DATA_AXIS))(images)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(after))
        return top

    exact, coarse = run(jnp.float32), run(jnp.bfloat16)
    assert coarse.dtype == jnp.bfloat16
    difference = jnp.abs(exact - coarse.astype(jnp.float32))
    assert 0 < difference.max() < 0.1 * jnp.abs(exact).max()


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v1_075"])
def test_stages_are_computed_at_bfloat16_from_float32_parameters(name):
    encoder = abstract(name, dtype=jnp.bfloat16)
    graph, state = nnx.split(encoder)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(encoder, nnx.Param)))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    stages = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x, train=False), state, images)
    assert {stage.dtype for stage in stages} == {jnp.dtype(jnp.bfloat16)}
