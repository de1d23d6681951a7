"""A step on any number of devices, in parts, with less memory: the same update as the plain one."""

import dataclasses
import json
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled import filled
from flax import nnx
from program import QUICKLY_COMPILED
from stepping import assert_same, mesh_of, run, step_of
from tiny_stages import BATCH, CLASSES, STAGES, batch, optimizer, placed

from fcam_jax.errors import InputError
from fcam_jax.losses.pixel_alignment import PixelAlignment
from fcam_jax.methods.contract import batch_key
from fcam_jax.models.batch_norm import BatchNorm
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.resnet import BasicBlock, ResNet
from fcam_jax.runtime.random import weight_keys
from fcam_jax.training.placed import data_mesh, replicate, spread
from fcam_jax.training.step import initial_state, jitted_step

pytestmark = pytest.mark.slow

# A mean of the parts' percentiles is not that of the batch.
PERCENTILES = ("foreground_10", "foreground_50", "foreground_90")


@pytest.fixture
def still_stage(stage, monkeypatch):
    """A stage whose BatchNorm takes its running statistics in training, too."""
    normalise = BatchNorm.__call__
    monkeypatch.setattr(BatchNorm, "__call__", lambda self, x, *, train: normalise(self, x, train=False))
    return stage


# With one seed of each kind in every image, its mean over parts is that over the batch but for pixels that both reach.
def without_ratios(stage):
    if stage.name == "fcam":
        terms = stage.method.alignment.terms
        seedless = {**terms, "seeds": dataclasses.replace(terms["seeds"], weight=0.0)}
        stage.method = dataclasses.replace(stage.method, alignment=PixelAlignment(seedless))
    return stage


@pytest.mark.sampled
def test_without_statistics_and_ratios_of_the_batch_parts_make_the_same_update(still_stage):
    stage = without_ratios(still_stage)
    stage.name = f"still {stage.name}"
    assert_same(run(stage, 1), run(stage, 1, accumulate=4), but=PERCENTILES)


def test_the_parts_do_not_depend_on_the_number_of_devices(stage):
    parts, whole = run(stage, 1, accumulate=2), run(stage, 1)
    assert_same(parts, run(stage, 4, accumulate=2))
    assert any(
        abs(a["loss"] - b["loss"]) > 1e-3 for a, b in zip(parts[1], whole[1], strict=True)
    )  # BatchNorm sees fewer


def test_what_is_drawn_once_for_a_batch_differs_between_parts():
    key = jax.random.key(0)
    drawn = [batch_key(key, dataclasses.replace(batch(0), part=part)) for part in (None, jnp.int32(0), jnp.int32(1))]
    assert len({tuple(jax.random.key_data(one).tolist()) for one in drawn}) == 3


@pytest.mark.sampled
def test_rematerialisation_changes_nothing_but_the_memory(stage):
    assert_same(run(stage, 1), run(stage, 4, remat=True))


def planned(stage, times=4, **how):
    """Bytes of temporaries, of images so many times as large, whose maps outweigh what does not depend on them."""
    mesh = mesh_of(1)
    large = dataclasses.replace(batch(0), images=np.tile(batch(0).images, (1, times, times, 1)))
    state = initial_state(placed(stage, mesh), stage.optimizer)
    step = jitted_step(placed(stage, mesh), stage.method, stage.optimizer, **how)
    leaves, tree = jax.tree.flatten((state, spread(large, mesh), replicate(jax.random.key(7), mesh)))
    # By leaves: JAX describes arguments by trees of the same classes, whose types are checked here.
    compiled = jax.jit(lambda leaves: step.__wrapped__(*jax.tree.unflatten(tree, leaves))).lower(leaves).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("stage", ["classifier"], indirect=True)
def test_parts_take_less_memory(stage):
    assert planned(stage, accumulate=2) < 0.8 * planned(stage)


def test_rematerialisation_takes_less_memory():
    method = STAGES["classifier"].method

    def build():
        encoder = ResNet(BasicBlock, (2, 1, 1, 1), dtype=jnp.float32, rngs=weight_keys(0))  # stages of several layers
        return Classifier(encoder, WGAP(encoder.channels[-1], CLASSES, rngs=nnx.Rngs(1)))

    model = filled(build)
    stage = types.SimpleNamespace(model=model, method=method, optimizer=optimizer(method))
    assert planned(stage, remat=True) < 0.9 * planned(stage)


@pytest.mark.sampled
@pytest.mark.parametrize("accumulate", [2, 1])
def test_the_state_is_donated_for_use(stage, accumulate):
    mesh = mesh_of(4)
    state, key = (
        initial_state(placed(stage, mesh), stage.optimizer),
        replicate(jax.random.key(0), mesh),
    )
    step = step_of(stage, 4, accumulate=accumulate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a donated buffer that no result can use is warned of
        step(state, spread(batch(0), mesh), key)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


@pytest.mark.sampled
def test_what_is_not_on_the_devices_is_refused(stage):
    class Drawing(type(stage.method)):
        def loss(self, model, batch, rng, step):
            loss, metrics = super().loss(model, batch, rng, step)
            return loss, metrics | {"drawn": jax.random.uniform(rng)}

    fields = {field.name: getattr(stage.method, field.name) for field in dataclasses.fields(stage.method)}
    stage.name, stage.method = f"drawing {stage.name}", Drawing(**fields)
    mesh, key = mesh_of(4), jax.random.key(0)
    state, step = initial_state(placed(stage, mesh), stage.optimizer), step_of(stage, 4)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        step(state, batch(0), replicate(key, mesh))
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed device-to-device transfer"):
        step(state, spread(batch(0), mesh), key)


def test_what_parts_cannot_be_made_of_is_named():
    assert data_mesh(16, 2).size == 4
    with pytest.raises(InputError, match=r"^train.accumulate is 3; it must divide the 4 images .*data.batch_size=16"):
        data_mesh(16, 3)


PROGRAM = """
import json, sys, types
from stepping import run
from tiny_stages import STAGES, optimizer
found = STAGES[sys.argv[1]]
stage = types.SimpleNamespace(
    name=sys.argv[1], model=found.model(), method=found.method, optimizer=optimizer(found.method)
)
print(json.dumps([float(row["loss"]) for row in run(stage, 8)[1]]))
"""


@pytest.mark.sampled
def test_two_and_eight_devices_equal_one(stage):
    assert BATCH == 8
    one = run(stage, 1)
    assert_same(one, run(stage, 2))
    tests = Path(__file__).resolve().parent.parent
    environment = os.environ | {
        "XLA_FLAGS": f"{QUICKLY_COMPILED} --xla_force_host_platform_device_count=8",
        "PYTHONPATH": os.pathsep.join(map(str, (tests / "helpers", tests.parent))),
    }
    command = [sys.executable, "-c", PROGRAM, stage.name]
    program = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    eight = json.loads(program.stdout.splitlines()[-1])
    np.testing.assert_allclose(eight, [row["loss"] for row in one[1]], rtol=2e-4)


@pytest.mark.parametrize("stage", ["classifier"], indirect=True)
def test_losses_and_statistics_are_float32_whatever_is_computed_in(stage):
    model, stage.name = stage.model, "coarse classifier"
    for _, module in nnx.iter_graph(model):
        if isinstance(module, nnx.Conv):
            module.dtype = jnp.bfloat16
        if isinstance(module, BatchNorm):
            module.output_dtype = jnp.bfloat16
    state, logged = run(stage, 4)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves((state.params, state.rest)))
    assert all(value.dtype == np.float32 for value in logged[0].values())
