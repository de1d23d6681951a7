"""Networks as shapes alone: nothing is initialised or computed. Each is traced once for all tests of a process."""

import functools

from flax import nnx

from fcam_jax.models import ENCODERS


@functools.cache
def abstract_encoder(name, **settings):
    """An encoder by its name, which no test may change."""
    return nnx.eval_shape(lambda: ENCODERS[name](rngs=nnx.Rngs(0), **settings))
