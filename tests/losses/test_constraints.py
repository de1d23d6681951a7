import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fcam_jax.errors import InputError
from fcam_jax.losses.constraints import ForegroundBounds, Size, region_sizes
from fcam_jax.losses.log_barrier import log_barrier

BOUNDS = ForegroundBounds(lower=0.2, upper=0.5)


def barrier(values, t):
    return log_barrier(values, t).mean(axis=-1)


def maps(foreground, dtype=jnp.float32):
    foreground = jnp.asarray(foreground, dtype)
    return jnp.stack([1 - foreground, foreground], axis=-1)


def test_sizes_are_soft_areas():
    probs = jnp.full((2, 3, 5, 2), 0.25)
    np.testing.assert_allclose(region_sizes(probs), np.full((2, 2), 3.75))
    np.testing.assert_allclose(Size().values(probs), np.full((2, 2), -3.75))


def test_bounds_hold_where_both_values_are_negative():
    probs = maps(np.array([0.1, 0.2, 0.3, 0.5, 0.9])[:, None, None] * np.ones((5, 4, 6)))
    expected = [[10, -40], [0, -30], [-10, -20], [-30, 0], [-70, 40]]
    np.testing.assert_allclose(BOUNDS.values(probs), expected, atol=1e-4)


@functools.partial(jax.jit, static_argnums=1)
def pulled(probs, constraint, t):
    values, pull_back = jax.vjp(lambda probs: barrier(constraint.values(probs), t), probs)
    return values, pull_back(jnp.ones(2))[0]


def values_and_slopes(dtype, constraint, t):
    """The barrier of an empty and a full map, and its slopes in each pixel."""
    foreground = np.stack([np.zeros((8, 8)), np.ones((8, 8))])
    values, slopes = pulled(np.stack([1 - foreground, foreground], axis=-1).astype(dtype), constraint, t)
    return values, np.asarray(slopes).astype(np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sizes_of_empty_and_full_regions_have_finite_values_and_slopes(dtype):
    values, slopes = values_and_slopes(dtype, Size(), 1.0)
    # An empty region, z = 0, lies beyond the joint, where the slope is t = 1: psi = 1. A full one has -log 64.
    np.testing.assert_allclose(values, np.full(2, (1 - np.log(64)) / 2), rtol=1e-6)
    np.testing.assert_allclose(slopes[0, ..., 1], -0.5, rtol=1e-6)
    np.testing.assert_allclose(slopes[0, ..., 0], -0.5 / 64, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("t", [1.0, 10.0])
def test_bounds_pull_empty_and_full_maps_back_with_finite_slopes(t, dtype):
    values, slopes = values_and_slopes(dtype, BOUNDS, t)
    assert np.isfinite(values).all()
    # z is (20, -50) and (-80, 50); the slope at a pixel of 64 is 100 / 64 of the mean of both.
    expected = np.array([-t + 1 / (50 * t), t - 1 / (80 * t)]) / 2 * 100 / 64
    np.testing.assert_allclose(slopes[..., 1], expected[:, None, None] * np.ones((2, 8, 8)), rtol=2**-8)


@pytest.mark.slow
@pytest.mark.parametrize("constraint", [Size(), BOUNDS])
@pytest.mark.parametrize("t", [1.0, 2.5, 10.0])
def test_gradients_are_finite_differences(constraint, t):
    rng = np.random.default_rng(0)
    shares = np.array([0.02, 0.4, 1.0])[:, None, None, None]
    probs = (rng.uniform(0, 1, (3, 6, 5, 2)) * shares).astype(np.float32)
    direction = rng.uniform(0, 1, probs.shape).astype(np.float32)
    step = np.float32(1e-3)
    above, below = (total_and_slope(probs + sign * step * direction, constraint, t)[0] for sign in (1, -1))
    slope = total_and_slope(probs, constraint, t)[1]
    np.testing.assert_allclose(np.vdot(slope, direction), (above - below) / (2 * step), rtol=5e-3)


@functools.partial(jax.jit, static_argnums=1)
def total_and_slope(probs, constraint, t):
    return jax.value_and_grad(lambda probs: barrier(constraint.values(probs), t).sum())(probs)


@pytest.mark.parametrize(("mean", "binding"), [(0.9, 0.5), (0.05, 0.2), (0.35, None)])
def test_the_barriers_minimum_tends_to_the_constrained_one(mean, binding):
    # The map nearest to a wanted one, whose share of foreground is bounded.
    wanted = np.clip(mean + 0.1 * np.random.default_rng(1).normal(size=(1, 3, 4)), 0, 1)

    def distance(flat):
        return 50 * np.mean((flat - wanted.ravel()) ** 2)

    share = {"type": "ineq", "fun": lambda flat: [flat.mean() - BOUNDS.lower, BOUNDS.upper - flat.mean()]}
    expected = scipy.optimize.minimize(distance, wanted.ravel(), method="SLSQP", constraints=share).x
    if binding:
        np.testing.assert_allclose(expected.mean(), binding, atol=1e-6)

    @jax.jit
    def penalised(flat, t):
        foreground = flat.reshape(wanted.shape)
        return 50 * jnp.mean((foreground - wanted) ** 2) + barrier(BOUNDS.values(maps(foreground)), t)[0]

    gradient = jax.jit(jax.value_and_grad(penalised))
    found, gaps = wanted.ravel(), []
    for t in (1.0, 10.0, 100.0):
        found = scipy.optimize.minimize(
            lambda flat, t=t: [np.asarray(part, np.float64) for part in gradient(flat.astype(np.float32), t)],
            found,
            jac=True,
            method="L-BFGS-B",
        ).x
        gaps.append(np.abs(found - expected).max())
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 2e-3


@pytest.mark.parametrize(("lower", "upper"), [(-0.1, 0.5), (0.6, 0.5), (0.1, 1.1)])
def test_bounds_outside_their_range_are_named(lower, upper):
    with pytest.raises(InputError, match=rf"^lower is {lower} and upper is {upper}; shares"):
        dataclasses.replace(BOUNDS, lower=lower, upper=upper)


@pytest.mark.parametrize("name", ["barrier_start", "barrier_rate", "barrier_limit"])
def test_a_setting_of_the_barrier_outside_its_range_is_named(name):
    with pytest.raises(InputError, match=f"^{name} is 0.0; it must be above 0$"):
        Size(**{name: 0.0})


@pytest.mark.parametrize(("step", "t"), [(0, 1.0), (187, 1.0), (188, 1.01), (1879, 1.01**9), (1880, 1.01**10)])
def test_the_barriers_grow_after_so_many_updates(step, t):
    np.testing.assert_allclose(Size().shared(jnp.asarray(step))["sharpness"], t, rtol=1e-5)
    often = Size(barrier_updates=4).shared(jnp.asarray(step))["sharpness"]
    np.testing.assert_allclose(often, min(1.01 ** (step // 4), 10), rtol=1e-4)
