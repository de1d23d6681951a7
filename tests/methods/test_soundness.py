import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from tiny_stages import STAGES

from fcam_jax.losses import PixelAlignment
from fcam_jax.methods.soundness import Watch, map_figures, marks_of
from fcam_jax.types import DATA_AXIS

GOOD = {"foreground_10": 8.0, "foreground_50": 20.0, "foreground_90": 45.0, "constant_maps": 0.0, "seeds": 0.3}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, []),
        ({"foreground_50": 96.0}, ["flooded"]),
        ({"seeds": 0.9}, ["flooded"]),
        ({"constant_maps": 60.0, "foreground_50": 70.0}, ["flooded"]),
        ({"constant_maps": 60.0}, ["collapsed"]),
        ({"foreground_50": 1.0}, ["collapsed"]),
        ({"foreground_50": 90.0, "seeds": 0.6}, []),
        ({"seeds": 0.7}, ["seeds at chance"]),
    ],
)
def test_the_marks_of_an_epoch(changes, names):
    found = marks_of(GOOD | changes, 100, decisive=True, cure="lower it")
    assert [mark.name for mark in found] == names
    assert all(mark.cure == "lower it" and not mark.sound for mark in found if mark.name != "seeds at chance")


def test_seeds_at_chance_is_told_when_they_must_be_learnt_and_is_sound():
    chance = GOOD | {"seeds": 0.69}
    assert not marks_of(chance, 100, decisive=False, cure="")
    (mark,) = marks_of(chance, 100, decisive=True, cure="")
    assert mark.sound and "the CAM cannot tell object from background" in mark.cure
    assert "cross-entropy of the seeds 0.69" in mark.why


def test_flat_maps_of_random_weights_are_no_mark_but_a_whole_foreground_is():
    flat = GOOD | {"constant_maps": 100.0, "seeds": 0.9}
    assert not marks_of(flat, 10, decisive=False, cure="") and marks_of(flat, 20, decisive=False, cure="")
    assert marks_of(GOOD | {"foreground_50": 99.0}, 8, decisive=False, cure="")


@pytest.mark.parametrize("devices", [1, 4])
def test_figures_of_maps_are_those_of_the_global_batch(devices):
    maps = np.random.default_rng(0).random((8, 5, 5)).astype(np.float32) * np.linspace(0.05, 1, 8)[:, None, None]
    mesh = jax.make_mesh((devices,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    spread, whole = PartitionSpec(DATA_AXIS), PartitionSpec()
    found = jax.jit(jax.shard_map(map_figures, mesh=mesh, in_specs=spread, out_specs=whole))(jnp.asarray(maps))
    for part in (10, 50, 90):
        expected = np.percentile(100 * maps.mean((1, 2)), part)
        np.testing.assert_allclose(found[f"foreground_{part}"], expected, rtol=1e-5)
    assert found["constant_maps"] == 100 * np.mean(np.ptp(maps.reshape(8, -1), axis=1) < 0.1) == 12.5


def test_fcam_watches_by_its_terms():
    method = STAGES["fcam"].method
    watch = method.watch(remedy=True)
    assert method.watch().remedy is None and Watch().remedy is None and not Watch().marks(GOOD, range(1))
    assert watch.told(GOOD | {"crf": -1e9, "size": -4.0}) == [
        *("seeds 0.3", "crf -1e+09", "size -4", "foreground 8/20/45 %", "constant maps 0 %")
    ]
    (mark,) = watch.marks(GOOD | {"foreground_50": 97.0}, range(4, 6))
    assert mark.cure.startswith("lower fcam.loss.crf.weight")
    chance = GOOD | {"seeds": 0.69}
    assert not watch.marks(chance, range(100, 102)) and watch.marks(chance, range(200, 200))
    assert watch.remedy({"classifier": 1, "fitted": {"crf": 1.0, "other": 3.0}}) == {
        "classifier": 1,
        "fitted": {"crf": 0.25, "other": 3.0},
    }
    crf = method.alignment.terms["crf"]
    terms = {**method.alignment.terms, "crf": dataclasses.replace(crf, start=101)}
    watch = dataclasses.replace(method, alignment=PixelAlignment(terms)).watch()
    assert [step for step in (98, 100, 102) if watch.marks(chance, range(step, step + 2))] == [100]
    assert not watch.marks(chance, range(100, 200))  # of the first epoch: its mean is that of random weights, too
