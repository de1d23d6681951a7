import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.losses.log_barrier import barrier_sharpness, log_barrier


def closed_form(z, t):
    """Value and slope on either side, in double precision."""
    z = np.asarray(z, np.float64)
    inside = z <= -1 / t**2
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(inside, -np.log(-z) / t, t * z - np.log(1 / t**2) / t + 1 / t)
        return value, np.where(inside, -1 / (t * z), t)


@functools.partial(jax.jit, static_argnums=1)
def value_and_slope(z, t):
    return log_barrier(z, t), jax.vmap(jax.grad(lambda z: log_barrier(z, t)))(z)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("t", [1.0, 2.5, 10.0])
def test_value_and_slope_are_the_closed_forms_and_continuous_at_the_joint(t, dtype):
    z = jnp.array([-5e4, -2.0, -1 / t**2, -0.5 / t**2, 0.0, 0.7, 3e3], dtype)
    value, slope = value_and_slope(z, t)
    assert value.dtype == jnp.float32 and slope.dtype == dtype
    expected = closed_form(np.asarray(z).astype(np.float64), t)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5, atol=1e-6)
    tolerance = {jnp.float32: 1e-5, jnp.bfloat16: 2**-8}[dtype]
    np.testing.assert_allclose(np.asarray(slope).astype(np.float64), expected[1], rtol=tolerance)
    # Across the joint: values 2 log(t) / t and slopes t, but for what the step between the two sides makes.
    step = float(jnp.finfo(dtype).eps)
    near = jnp.array([-(1 + 2 * step) / t**2, -(1 - 2 * step) / t**2], dtype)
    assert near[0] < -1 / t**2 < near[1]
    values, slopes = value_and_slope(near, t)
    np.testing.assert_allclose(values, np.full(2, 2 * np.log(t) / t), atol=4 * step / t + 1e-6)
    np.testing.assert_allclose(np.asarray(slopes).astype(np.float64), np.full(2, t), rtol=4 * step)


@pytest.mark.parametrize(
    ("grown", "t"), [(0, 1.0), (1, 1.01), (10, 1.104622), (49, 1.628348), (231, 9.959496), (232, 10.0), (1000, 10.0)]
)
def test_sharpness_grows_by_its_rate_to_its_limit(grown, t):
    np.testing.assert_allclose(barrier_sharpness(jnp.array(grown), 1.0, 1.01, 10.0), t, rtol=2e-5)
