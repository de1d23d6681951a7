"""Training steps of a tiny stage on some devices. A stage goes by its name: for all tests of a process, each of its
steps is compiled, and each of its runs is made, once.
"""

import jax
import numpy as np
from jax.sharding import AxisType
from tiny_stages import batch, placed

from fcam_jax.training.placed import replicate, spread
from fcam_jax.training.step import initial_state, make_train_step
from fcam_jax.types import DATA_AXIS

STEPS = 3

_STEPS: dict = {}
_RUNS: dict = {}


def mesh_of(devices):
    return jax.make_mesh((devices,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


def step_of(stage, devices, **how):
    """The step of a stage."""
    key = (stage.name, devices, *how.items())
    if key not in _STEPS:
        _STEPS[key] = make_train_step(placed(stage, mesh_of(devices)), stage.method, stage.optimizer, **how)
    return _STEPS[key]


def run(stage, devices, **how):
    """The state after some steps, and what each of them logged."""
    key = (stage.name, devices, *how.items())
    if key not in _RUNS:
        mesh = mesh_of(devices)
        state, rng = initial_state(placed(stage, mesh), stage.optimizer), replicate(jax.random.key(7), mesh)
        logged = []
        for number in range(STEPS):
            state, metrics = step_of(stage, devices, **how)(state, spread(batch(number), mesh), rng)
            logged.append(jax.device_get(metrics))
        _RUNS[key] = jax.device_get(state), logged
    return _RUNS[key]


def assert_same(one, other, but=()):
    """The same figures, but for some, and the same parameters."""
    for a, b in zip(one[1], other[1], strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - set(but):
            np.testing.assert_allclose(a[name], b[name], rtol=2e-4, atol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(one[0]), jax.tree.leaves(other[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
