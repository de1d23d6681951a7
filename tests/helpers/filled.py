"""Networks with random values at once: compiling the random initialisers takes longer than most tests."""

import jax.numpy as jnp
import numpy as np
from flax import nnx


def is_kernel(path, leaf):
    """Whether an array is the kernel of a layer."""
    return path[-1] == "kernel"


def filled(build, drawn=is_kernel, variance=2.0):
    """The module that a function builds, with random arrays where `drawn` says so, of the variance over their fan-in;
    elsewhere scales and variances are 1, and all else is 0.
    """
    module = nnx.eval_shape(build)
    rng = np.random.default_rng(0)
    for path, leaf in nnx.to_flat_state(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))):
        value = np.full(leaf.shape, float(path[-1] in ("scale", "var")))
        if drawn(path, leaf):
            value = rng.normal(size=leaf.shape) * np.sqrt(variance / np.prod(leaf.shape[:-1]))
        leaf.set_value(jnp.asarray(value.astype(np.float32)))  # in NumPy, which compiles nothing
    return module
