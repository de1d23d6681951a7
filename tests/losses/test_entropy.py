import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from test_pixel_alignment import inputs, loss, with_terms

from fcam_jax.losses import Weighted
from fcam_jax.losses.entropy import Entropy, entropy

value_and_slope = jax.jit(jax.value_and_grad(lambda logits: entropy(logits).sum()))


@pytest.mark.parametrize("regions", [2, 3])
def test_it_is_the_mean_entropy_of_the_pixels(regions):
    logits = 3 * np.random.default_rng(0).normal(size=(2, 4, 5, regions)).astype(np.float32)
    probs = np.exp(logits.astype(np.float64))
    expected = scipy.stats.entropy(probs, axis=-1).mean((1, 2))
    np.testing.assert_allclose(jax.jit(entropy)(logits), expected, rtol=1e-5)


def test_the_gradient_agrees_with_finite_differences():
    logits = np.random.default_rng(1).normal(size=(1, 2, 3, 2)).astype(np.float32)
    found = np.asarray(value_and_slope(logits)[1])

    def value(x):
        return scipy.stats.entropy(np.exp(x), axis=-1).mean()

    for place in np.ndindex(*logits.shape):
        step = np.zeros(logits.shape)
        step[place] = 1e-4
        slope = (value(logits + step) - value(logits - step)) / 2e-4
        np.testing.assert_allclose(found[place], slope, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("pixel", [(1e4, -1e4), (-1e4, 1e4), (1e4, 1e4), (-1e4, -1e4)])
def test_huge_scores_give_finite_values_and_gradients(dtype, pixel):
    value, gradient = value_and_slope(np.broadcast_to(np.asarray(pixel, dtype), (1, 3, 3, 2)))
    np.testing.assert_allclose(value, np.log(2) if pixel[0] == pixel[1] else 0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(gradient, np.float32), 0, atol=1e-6)


@pytest.mark.slow
def test_it_takes_part_in_the_sum_from_its_start():
    settings = with_terms(entropy=Weighted(Entropy(), 0.5, start=2))
    np.testing.assert_array_equal(loss(settings, 1)[0], loss(step=1)[0])
    assert "entropy" not in loss(step=1)[1]
    value, terms = loss(settings, 2)
    expected = scipy.stats.entropy(np.exp(np.asarray(inputs().logits, np.float64)), axis=-1).mean()
    np.testing.assert_allclose(terms["entropy"], expected, rtol=1e-5)
    np.testing.assert_allclose(value - loss(step=2)[0], 0.5 * expected, rtol=1e-4)
