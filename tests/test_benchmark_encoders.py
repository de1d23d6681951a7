"""What the benchmark of the encoders counts: FLOP against closed forms and against torchvision's published figures."""

import argparse
import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from benchmarks import encoders
from fcam_jax.models import ENCODERS
from fcam_jax.runtime.random import weight_keys

LENGTH = 5


def flops(function, *arguments):
    return encoders.count_flops(jax.make_jaxpr(function)(*arguments))


def conv(x, kernel, stride, groups=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (2, 3)])
def test_a_convolution_and_its_two_gradients_have_the_closed_form_each(stride, groups):
    x, kernel = jnp.ones((2, 8, 10, 6)), jnp.ones((3, 3, 6 // groups, 12))
    expected = 2 * 2 * (8 // stride) * (10 // stride) * 3 * 3 * 6 // groups * 12

    def loss(x, kernel):
        return jnp.square(conv(x, kernel, stride, groups)).sum()

    assert flops(loss, x, kernel) == expected
    assert flops(jax.grad(loss, argnums=1), x, kernel) == 2 * expected
    assert flops(jax.grad(loss, argnums=(0, 1)), x, kernel) == 3 * expected


def own_gradient(function):
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda a, b: (function(a, b), None), lambda _, g: (g, g))
    return wrapped


def scan(function):
    return lambda a, b: jax.lax.scan(lambda carry, _: (function(carry, b), None), a, length=LENGTH)[0]


def mapped(function):
    specs = {"in_specs": encoders.REPLICATED, "out_specs": encoders.REPLICATED}
    return jax.shard_map(function, mesh=encoders.one_device(), **specs)


@pytest.mark.parametrize(
    ("wrap", "times"), [(jax.jit, 1), (jax.checkpoint, 1), (own_gradient, 1), (mapped, 1), (scan, LENGTH)]
)
def test_products_inside_other_functions_are_counted(wrap, times):
    a, b = jnp.ones((7, 2, 3)), jnp.ones((7, 3, 3))
    assert flops(wrap(jax.lax.batch_matmul), a, b) == times * 2 * 7 * 2 * 3 * 3


# Billions of multiply-adds at 224x224 with 1,000 classes, from torchvision's table of weights.
@pytest.mark.slow
@pytest.mark.parametrize(("name", "published"), [("resnet18", 1.814), ("resnet50", 4.089)])
def test_a_whole_network_has_its_published_multiply_adds(name, published):
    structure, variables = nnx.split(nnx.eval_shape(lambda: ENCODERS[name](final_stride=32, rngs=weight_keys(0))))
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    counted = flops(
        lambda variables, x: nnx.merge(structure, variables)(x, train=False)[-1].mean((1, 2)), variables, image
    )
    head = 2 * {"resnet18": 512, "resnet50": 2048}[name] * 1000
    assert (counted + head) / 2e9 == pytest.approx(published, abs=5e-4)


@pytest.mark.slow
def test_the_stages_and_the_head_make_up_the_step():
    model = encoders.classifier("small", "float32")
    work = {mode: make() for mode, make in encoders.workloads(model, 2, 32, parts=True).items()}
    counts = {mode: encoders.count_flops(item.function.trace(*item.arguments).jaxpr) for mode, item in work.items()}
    assert set(counts) > {"forward", "training", "0: 16x16x16", "head"}
    assert sum(counts.values()) == pytest.approx(counts["forward"] + 2 * counts["training"])


def test_a_workload_without_memory_is_said_and_passed_over():
    options = argparse.Namespace(seconds=0.1, repeats=1, profile=None)
    huge = encoders.Workload(jax.jit(lambda x: jnp.broadcast_to(x, (2**20, 2**20, 2**8)) + 1), (jnp.ones(2**8),))
    line = encoders.measure(lambda: huge, 1, 1.0, options)
    assert line == {"runs x steps": "out of memory"}
    figures = encoders.measure(lambda: encoders.Workload(jax.jit(jnp.dot), (jnp.ones((8, 8)),) * 2), 1, 1e9, options)
    assert math.isclose(figures["GFLOP/image"], 2 * 8**3 / 1e9)
    assert figures["% of matmul"] == pytest.approx(100 * figures["TFLOP/s"] * 1e3)
    assert encoders.row(figures | {"encoder": "x"}).count("|") == encoders.TITLES.count("|") + 2


def test_an_operation_without_a_result_is_passed_over():
    def function(x):
        jax.debug.callback(lambda value: None, x.sum())
        return x @ x

    assert flops(function, jnp.ones((4, 4))) == 2 * 4**3
