"""A way to train stage 1 at work on a mesh of some devices, with a tiny network."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType
from one_device import on_one_device
from tiny_stages import CLASSES, batch, optimizer

from fcam_jax.cams import CAMS
from fcam_jax.methods.classifier import ClassifierMethod, new_layers
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.training.placed import Placed, replicate, spread
from fcam_jax.training.step import initial_state, make_train_step
from fcam_jax.types import DATA_AXIS


def network(way, encoder):
    """The encoder under the head and with the additions of a way."""
    of_layers = {"dtype": jnp.float32, "rngs": nnx.Rngs(1)}
    head = way.head(encoder, CLASSES, **of_layers) or WGAP(encoder.channels[-1], CLASSES, **of_layers)
    return way.extend(Classifier(encoder, head), **of_layers)


def losses_of(ways, model, given):
    """What each loss returns on one device, for a copy of the network, whose statistics training may change."""
    graph, state = nnx.split(model)

    def of_copy(way):
        copy = nnx.merge(graph, jax.tree.map(jnp.asarray, state))
        return way.loss(copy, given, jax.random.key(0), jnp.asarray(0))

    return on_one_device(lambda: [of_copy(way) for way in ways])


def trained(way, encoder, devices, steps=2, **how):
    """States before and after some steps, and what these logged."""
    model = network(way, encoder)
    method = ClassifierMethod(CAMS["cam"](), "protocol", new_layers(model), 10.0, way)
    mesh = jax.make_mesh((devices,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    rule = way.optimizer(optimizer(method), lambda step: 0.01)
    state = initial_state(Placed.split(model, method, mesh), rule)
    before, key = jax.device_get(state), replicate(jax.random.key(7), mesh)
    step, logged = make_train_step(Placed.split(model, method, mesh), method, rule, **how), []
    for number in range(steps):
        state, metrics = step(state, spread(batch(number), mesh), key)
        logged.append(jax.device_get(metrics))
    return before, jax.device_get(state), logged


def assert_alike_on_four(way, build, **how):
    """One device gives what four give; the states before and after, and what was logged.

    `build` makes the encoder, the same every time.
    """
    before, one, logged_one = trained(way, build(), 1, **how)
    _, four, logged_four = trained(way, build(), 4, **how)
    for a, b in zip(logged_one, logged_four, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            np.testing.assert_allclose(b[name], value, rtol=2e-4, atol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    return before, one, logged_one
