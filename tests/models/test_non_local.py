"""Non-local blocks against reference values; that they begin as the identity, and take any number of positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from one_device import parameters

from fcam_jax.models import non_local
from fcam_jax.models.non_local import NonLocal


def sine(scale, rate, start, *shape):
    return jnp.asarray(scale * np.sin(rate * np.arange(np.prod(shape)) + start).reshape(shape), jnp.float32)


def block():
    """Of 8 channels, with weights [out, in] and biases by a formula."""
    made = NonLocal(8, rngs=nnx.Rngs(0))
    of_layers = {
        made.query: (sine(0.5, 0.8, 0.1, 1, 8), jnp.array([0.1])),
        made.key: (sine(0.5, 0.6, 0.2, 1, 8), jnp.array([-0.2])),
        made.value: (sine(0.3, 0.33, 0.3, 8, 8), sine(0.1, 1.1, 0, 8)),
        made.out: (sine(0.3, 0.21, 0.6, 8, 8), sine(0.1, 1.3, 0, 8)),
    }
    for layer, (kernel, bias) in of_layers.items():
        layer.kernel[...], layer.bias[...] = kernel.T[None, None], bias
    return made


X = sine(1, 0.5, 0, 8, 9).T.reshape(1, 3, 3, 8)
# Reference values computed with numpy alone, of the first two positions.
MIXED = [
    [0.020681, 0.108124, 0.028304, -0.075478, -0.063639, 0.022828, 0.074861, 0.036042],
    [0.020878, 0.107970, 0.028140, -0.075288, -0.063516, 0.022611, 0.074786, 0.036275],
]
ADDED = [  # behind a BatchNorm of the nine positions, of scale 0.5 and bias 0.1
    [0.213075, -0.966273, 0.417280, 1.012225, -0.579285, -0.509981, 1.011768, 0.315468],
    [0.722762, -0.971654, -0.095319, 1.228293, -0.151691, -0.902092, 0.742841, 0.818279],
]


@pytest.mark.parametrize("at_once", [2, 256])
def test_positions_attend_to_each_other(at_once, monkeypatch):
    monkeypatch.setattr(non_local, "_AT_ONCE", at_once)
    made = block()
    made.norm.scale[...], made.norm.bias[...] = jnp.full(8, 0.5), jnp.full(8, 0.1)
    # Where no devices are mapped, the batch is whole.
    mixed, added = nnx.jit(lambda made: (made.mixed(X), made(X, train=True)))(made)
    np.testing.assert_allclose(mixed.reshape(9, 8)[:2], MIXED, atol=1e-5)
    np.testing.assert_allclose(added.reshape(9, 8)[:2], ADDED, atol=2e-5)


@pytest.mark.slow
def test_it_begins_as_the_identity_and_learns_from_there():
    made = block()
    np.testing.assert_array_equal(made(X, train=False), X)
    graph, params, rest = nnx.split(made, nnx.Param, ...)

    @jax.jit
    @jax.grad
    def slope(params):
        return (nnx.merge(graph, params, rest)(X, train=False) ** 3).sum()

    gradients = nnx.to_pure_dict(slope(params))
    assert (gradients["norm"]["scale"] != 0).all() and not gradients["value"]["kernel"].any()
    made.norm.scale[...] = jnp.ones(8)
    gradients = nnx.to_pure_dict(slope(nnx.state(made, nnx.Param)))
    assert all(gradients[name]["kernel"].any() for name in ("query", "key", "value", "out"))


@pytest.mark.parametrize(("channels", "count"), [(128, 37_408), (256, 148_544), (512, 592_000)])
def test_parameters_are_as_many_as_in_the_released_program(channels, count):
    assert parameters(nnx.eval_shape(lambda: NonLocal(channels, rngs=nnx.Rngs(0)))) == count
