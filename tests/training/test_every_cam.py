"""Every CAM spread over devices: as the source of F-CAM's seeds in a training step, and as what localizes."""

import dataclasses

import jax
import numpy as np
import pytest
from explained import OF_FEATURES
from jax.sharding import AxisType
from tiny_stages import STAGES, batch, optimizer

from fcam_jax.cams import CAMS
from fcam_jax.cams.fusion import fused
from fcam_jax.cams.score_maps import minmax
from fcam_jax.training.placed import Placed, replicate, spread
from fcam_jax.training.step import initial_state, make_train_step
from fcam_jax.types import DATA_AXIS

pytestmark = pytest.mark.slow

FEW = {"sscam": {"samples": 2}, "iscam": {"samples": 2}}
ALL = [fused(CAMS[name](**FEW.get(name, {})), (), 3) for name in OF_FEATURES]
ALL += [fused(CAMS["layercam"](), ("stage2", "stage3"), 3)]


def every_cam(target):
    """The mean of all CAMs at the top stage, and of a fused one: one step compiles them all."""
    return sum(minmax(cam(target)) for cam in ALL) / len(ALL)


every_cam.finest = -1  # as a `Cam`


def mesh_of(devices):
    return jax.make_mesh((devices,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


def step(devices):
    model = STAGES["fcam"].model()
    method = dataclasses.replace(STAGES["fcam"].method, cam=every_cam)
    mesh = mesh_of(devices)
    state = initial_state(Placed.split(model, method, mesh), optimizer(method))
    before = jax.device_get(state.params)
    run = make_train_step(Placed.split(model, method, mesh), method, optimizer(method))
    state, metrics = run(state, spread(batch(0), mesh), replicate(jax.random.key(7), mesh))
    return before, jax.device_get(state.params), jax.device_get(metrics)


def localized(devices, cam):
    model = STAGES["classifier"].model()
    method = dataclasses.replace(STAGES["classifier"].method, cam=cam)
    mesh = mesh_of(devices)
    placed = Placed.split(model, method, mesh).replicated()
    return placed.localize({"maps": method.localize})(placed, batch(0))["maps"].maps


@pytest.mark.long
def test_a_step_trains_from_the_seeds_of_all_cams_and_one_device_equals_four():
    before, one, metrics_one = step(1)
    _, four, metrics_four = step(4)
    for name, value in metrics_one.items():
        assert np.isfinite(value)
        np.testing.assert_allclose(metrics_four[name], value, rtol=2e-4, atol=1e-5, err_msg=name)
    for a, b, old in zip(jax.tree.leaves(one), jax.tree.leaves(four), jax.tree.leaves(before), strict=True):
        assert (a != old).any()
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "cam",
    [
        pytest.param(every_cam, id="all", marks=pytest.mark.long),
        pytest.param(fused(CAMS["fullgrad"](), (), 3), id="fullgrad"),
    ],
)
def test_maps_do_not_depend_on_the_number_of_devices(cam):
    one, four = localized(1, cam), localized(4, cam)
    assert len(four.sharding.device_set) == 4 and np.ptp(one) > 0
    np.testing.assert_allclose(four, one, atol=1e-4)
