import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from fcam_jax.losses.partial_cross_entropy import partial_cross_entropy

value_and_slope = jax.jit(jax.value_and_grad(partial_cross_entropy))


def test_mean_over_seeded_pixels():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 6, 7, 2)).astype(np.float32)
    seeds = rng.choice([-1, -1, 0, 1], (3, 6, 7))
    log_probs = scipy.special.log_softmax(logits.astype(np.float64), axis=-1)
    losses = [-log_probs[index][label] for index, label in np.ndenumerate(seeds) if label >= 0]
    np.testing.assert_allclose(
        partial_cross_entropy(jnp.asarray(logits), jnp.asarray(seeds)), np.mean(losses), rtol=1e-5
    )


def test_without_seeds_value_and_gradient_are_zero():
    logits = jnp.ones((2, 4, 4, 2))
    value, gradient = value_and_slope(logits, jnp.full((2, 4, 4), -1))
    assert value == 0 and not np.asarray(gradient).any()


@pytest.mark.slow
def test_an_image_without_seeds_neither_counts_nor_learns():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(3, 5, 5, 2)).astype(np.float32)
    seeds = rng.choice([-1, 0, 1], (3, 5, 5))
    seeds[1] = -1
    value, gradient = value_and_slope(logits, seeds)
    others = np.array([0, 2])
    np.testing.assert_allclose(value, value_and_slope(logits[others], seeds[others])[0], rtol=1e-6)
    gradient = np.asarray(gradient)
    assert not gradient[1].any() and gradient[0].any() and gradient[2].any()


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e30])
def test_bfloat16_logits_of_any_size_give_the_exact_loss_of_their_values(scale):
    rng = np.random.default_rng(3)
    logits = jnp.asarray(scale * rng.normal(size=(2, 5, 5, 2)), jnp.bfloat16)
    seeds = rng.integers(-1, 2, (2, 5, 5))
    value, gradient = value_and_slope(logits, seeds)
    exact = np.asarray(logits).astype(np.float64)
    places = (*np.nonzero(seeds >= 0), seeds[seeds >= 0])
    np.testing.assert_allclose(value, -scipy.special.log_softmax(exact, -1)[places].mean(), rtol=1e-5)
    slopes = scipy.special.softmax(exact, -1)
    slopes[places] -= 1
    slopes *= (seeds >= 0)[..., None] / (seeds >= 0).sum()
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(gradient).astype(np.float64), slopes, rtol=2**-8, atol=1e-6)


def test_certain_and_wrong_predictions_stay_finite():
    logits = jnp.array([[[[200.0, -200.0]]]])
    value, gradient = value_and_slope(logits, jnp.ones((1, 1, 1), jnp.int32))
    assert value == 400 and np.isfinite(gradient).all()


@pytest.mark.slow
def test_the_mean_runs_over_the_whole_mapped_batch():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4, 2, 5, 5, 2)).astype(np.float32)
    seeds = rng.choice([-1, 0, 1], (4, 2, 5, 5), p=[0.9, 0.05, 0.05])
    mapped = jax.jit(jax.vmap(lambda x, s: partial_cross_entropy(x, s, "data"), axis_name="data"))(logits, seeds)
    whole, _ = value_and_slope(logits.reshape(8, 5, 5, 2), seeds.reshape(8, 5, 5))
    np.testing.assert_allclose(mapped, np.full(4, whole), rtol=1e-6)
