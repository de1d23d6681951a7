"""Networks with random values at once: compiling the random initialisers takes longer than most tests."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx


def _filled(build):
    module = nnx.eval_shape(build)
    rng = np.random.default_rng(0)
    for path, leaf in nnx.to_flat_state(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))):
        value = np.full(leaf.shape, float(path[-1] in ("scale", "var")))
        if path[-1] == "kernel":
            value = rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        leaf.set_value(jnp.asarray(value, jnp.float32))
    return module


@pytest.fixture(scope="session")
def filled():
    """From a function that builds a module to that module with random kernels, as initialised otherwise."""
    return _filled
