"""Every family of encoders can be trained by a compiled step: its gradient is traced, and nothing is computed."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from fcam_jax.models import ENCODERS
from fcam_jax.models.create import published_stride
from fcam_jax.runtime.random import weight_keys
from tests.helpers.abstract import FAMILIES


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("name, settings", [*((name, {}) for name in FAMILIES), ("inceptionv3", {"dilate": True})])
def test_a_compiled_step_has_a_gradient(name, settings):
    stride = 8 if settings else published_stride(ENCODERS[name])
    abstract = nnx.eval_shape(lambda: ENCODERS[name](rngs=weight_keys(0), final_stride=stride, **settings))
    structure, params, rest = nnx.split(abstract, nnx.Param, ...)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))

    @jax.jit
    def gradient(params, rest, images, keys):
        def loss(params):
            encoder = nnx.merge(structure, params, rest, copy=True)
            return encoder.map_of(encoder(images, train=True, rng=keys)[-1]).astype(jnp.float32).sum()

        return jax.grad(loss)(params)

    images = jax.ShapeDtypeStruct((2, 112, 112, 3), jnp.float32)
    found = gradient.trace(params, rest, images, keys).out_info
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, params)
