import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.losses.log_barrier import barrier_sharpness, log_barrier, region_sizes, size_barrier


@pytest.mark.parametrize("t", [1.0, 2.5, 10.0])
def test_value_and_slope_are_continuous_at_the_joint(t):
    joint = -1 / t**2
    below, above = np.float32(joint - 1e-5), np.float32(joint + 1e-5)
    np.testing.assert_allclose(log_barrier(jnp.array(below), t), log_barrier(jnp.array(above), t), atol=1e-3)
    slope = jax.grad(lambda z: log_barrier(z, t))
    np.testing.assert_allclose(slope(jnp.array(below)), slope(jnp.array(above)), rtol=2e-3)
    np.testing.assert_allclose(slope(jnp.array(above)), t, rtol=1e-6)


@pytest.mark.parametrize("t", [1.0, 3.0])
def test_closed_forms_on_both_sides(t):
    inside, outside = np.array([-50.0, -2.0], np.float32), np.array([0.0, 0.7], np.float32)
    np.testing.assert_allclose(log_barrier(jnp.asarray(inside), t), -np.log(-inside) / t, rtol=1e-6)
    expected = t * outside - np.log(1 / t**2) / t + 1 / t
    np.testing.assert_allclose(log_barrier(jnp.asarray(outside), t), expected, rtol=1e-6)


def test_gradients_are_finite_for_empty_and_full_regions():
    probs = jnp.stack([jnp.zeros((1, 8, 8)), jnp.ones((1, 8, 8))], -1)
    value, gradient = jax.value_and_grad(lambda p: size_barrier(p, 1.0).sum())(probs)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    # An empty region lies beyond the joint, where the slope is t: -t/2 a pixel. A full one of n: -1/(2 n t).
    np.testing.assert_allclose(gradient[..., 0], -0.5, rtol=1e-6)
    np.testing.assert_allclose(gradient[..., 1], -0.5 / 64, rtol=1e-6)


def test_sizes_are_soft_areas():
    probs = jnp.full((2, 3, 5, 2), 0.25)
    np.testing.assert_allclose(region_sizes(probs), np.full((2, 2), 3.75))


def test_sharpness_grows_by_its_rate_to_its_limit():
    epochs = jnp.array([0, 1, 10, 1000])
    expected = [1.0, 1.01, 1.01**10, 10.0]
    np.testing.assert_allclose([barrier_sharpness(e, 1.0, 1.01, 10.0) for e in epochs], expected, rtol=1e-5)
