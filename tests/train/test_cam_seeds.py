"""A step of F-CAM's training with every CAM as the source of its seeds."""

import dataclasses

import jax
import numpy as np
from jax.sharding import AxisType
from tiny_stages import STAGES, batch, optimizer

from fcam_jax.cams.registry import CAMS, bind
from fcam_jax.cams.score_maps import minmax
from fcam_jax.train.step import initial_state, make_train_step, spread
from fcam_jax.types import DATA_AXIS

FEW = {"sscam": {"samples": 2}, "iscam": {"samples": 2}}
ALL = [bind(name, FEW.get(name, {}), (), 4) for name in CAMS] + [bind("layercam", {}, ("stage3", "stage4"), 4)]


def every_cam(target):
    """The mean of all CAMs at the top stage, and of a fused one: one step compiles them all."""
    return sum(minmax(cam(target)) for cam in ALL) / len(ALL)


def step(devices):
    model = STAGES["fcam"].model()
    method = dataclasses.replace(STAGES["fcam"].method, cam=every_cam)
    mesh = jax.make_mesh((devices,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    state = initial_state(model, method, optimizer(method), mesh)
    before = jax.device_get(state.params)
    run = make_train_step(model, method, optimizer(method), mesh)
    state, metrics = run(state, spread(batch(0), mesh), jax.random.key(7))
    return before, jax.device_get(state.params), jax.device_get(metrics)


def test_a_step_trains_from_the_seeds_of_all_cams_and_one_device_equals_four():
    before, one, metrics_one = step(1)
    _, four, metrics_four = step(4)
    for name, value in metrics_one.items():
        assert np.isfinite(value)
        np.testing.assert_allclose(metrics_four[name], value, rtol=2e-4, atol=1e-5, err_msg=name)
    for a, b, old in zip(jax.tree.leaves(one), jax.tree.leaves(four), jax.tree.leaves(before), strict=True):
        assert (a != old).any()
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
