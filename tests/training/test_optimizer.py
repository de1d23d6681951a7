import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fcam_jax.errors import InputError
from fcam_jax.training.optimizer import OPTIMIZERS, SGD, AdamW, CosineAdamW


def test_rate_decays_after_exactly_the_given_epochs_down_to_its_floor():
    schedule = SGD(learning_rate=0.1, decay_epochs=3).schedule(steps_per_epoch=10)
    epochs = [float(schedule(10 * epoch)) for epoch in (0, 2, 3, 5, 6)]
    np.testing.assert_allclose(epochs, [0.1, 0.1, 0.01, 0.01, 0.001], rtol=1e-5)
    np.testing.assert_allclose(schedule(29), 0.1, rtol=1e-6)
    np.testing.assert_allclose(schedule(10_000), 1e-7, rtol=1e-5)


def test_zero_decay_epochs_keep_the_rate():
    schedule = SGD(learning_rate=0.1).schedule(steps_per_epoch=10)
    assert float(schedule(12345)) == np.float32(0.1)


def test_updates_follow_nesterov_sgd_with_weight_decay_and_factors():
    # The recurrence of SGD with Nesterov momentum, written out: v <- m v + g, p <- p - lr (g + m v), g with decay.
    settings = SGD(learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    optimizer = settings.update(settings.schedule(1), lambda path: 10.0 if path[0] == "head" else 1.0)
    params = {"encoder": jnp.array([1.0, -2.0]), "head": jnp.array([0.5])}
    state = optimizer.init(params)
    expected = {name: np.asarray(value, np.float64) for name, value in params.items()}
    velocity = dict.fromkeys(params, 0.0)
    rng = np.random.default_rng(0)
    for _ in range(4):
        gradients = {name: rng.normal(size=value.shape) for name, value in params.items()}
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, gradients), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        for name, factor in (("encoder", 1.0), ("head", 10.0)):
            gradient = gradients[name] + 0.01 * expected[name]
            velocity[name] = 0.9 * velocity[name] + gradient
            expected[name] = expected[name] - 0.1 * factor * (gradient + 0.9 * velocity[name])
    for name in params:
        np.testing.assert_allclose(params[name], expected[name], rtol=1e-5)


def test_adamw_is_optax_s():
    ours = AdamW(learning_rate=0.01, weight_decay=0.1, beta1=0.8, beta2=0.9)
    ours, theirs = ours.update(ours.schedule(1), lambda path: 1.0), optax.adamw(0.01, 0.8, 0.9, weight_decay=0.1)
    params, gradients = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([0.3, 0.7])}
    updates = [one.update(gradients, one.init(params), params)[0]["w"] for one in (ours, theirs)]
    np.testing.assert_allclose(*updates, rtol=1e-6)


def test_a_cosine_rises_for_its_warm_up_and_ends_at_its_floor():
    schedule = CosineAdamW(learning_rate=0.2, warmup_epochs=0.5, floor=0.1).schedule(8, epochs=3)  # 4 of 24 updates
    expected = [0.2 * (step + 1) / 4 for step in range(4)]
    expected += [0.2 * (0.1 + 0.45 * (1 + np.cos(np.pi * step / 20))) for step in range(21)]
    np.testing.assert_allclose([float(schedule(step)) for step in range(25)], expected, rtol=1e-5)
    np.testing.assert_allclose(schedule(1000), 0.02, rtol=1e-5)
    np.testing.assert_allclose(CosineAdamW(learning_rate=0.2, warmup_epochs=0.0).schedule(8, 3)(0), 0.2, rtol=1e-6)


def test_a_warm_up_may_take_all_of_a_training_but_no_more():
    schedule = CosineAdamW(learning_rate=0.2, warmup_epochs=5.0).schedule(4, epochs=1)
    np.testing.assert_allclose([float(schedule(step)) for step in range(4)], [0.05, 0.1, 0.15, 0.2], rtol=1e-6)


@pytest.mark.slow
def test_kernels_alone_decay_and_a_training_goes_on_from_its_state():
    rule = CosineAdamW(learning_rate=0.1, weight_decay=0.5, warmup_epochs=0.0)
    optimizer = rule.update(rule.schedule(5, epochs=2), lambda path: 1.0)
    names = {"kernel": (2, 3), "bias": (3,), "scale": (3,), "cls_token": (1, 1, 3), "pos_embed": (1, 4, 3)}
    rng = np.random.default_rng(0)
    params = {"layer": {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in names.items()}}
    start, state = params, optimizer.init(params)
    for _ in range(4):
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        state = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state)  # as a checkpoint keeps it
    # Without gradients Adam stands still, and a kernel shrinks by the decay at each rate.
    rates = 0.1 * (0.01 + 0.495 * (1 + np.cos(np.pi * np.arange(4) / 10)))
    shrunk = np.prod(1 - 0.5 * rates)
    for name in names:
        factor = shrunk if name == "kernel" else 1
        np.testing.assert_allclose(params["layer"][name], factor * start["layer"][name], rtol=1e-5)


def test_settings_of_the_cosine_that_cannot_be_are_named():
    assert OPTIMIZERS["adamw_cosine"] is CosineAdamW
    with pytest.raises(InputError, match=r"floor is 1\.5; it must lie in \[0, 1\]"):
        CosineAdamW(floor=1.5)
    with pytest.raises(InputError, match=r"warmup_epochs is -1\.0; it must be at least 0"):
        CosineAdamW(warmup_epochs=-1.0)
