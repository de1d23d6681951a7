import jax
import jax.numpy as jnp
import numpy as np
import optax

from fcam_jax.training.optimizer import SGD, AdamW


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
