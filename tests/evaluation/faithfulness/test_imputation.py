"""Noisy linear imputation against a dense solve of the same equations, and closed forms."""

import functools

import jax
import numpy as np
import pytest
from dense_imputation import dense

from fcam_jax.evaluation.faithfulness import impute

# Operation by operation, each of a shape is a program of its own: it is called so only where the test says that.
jitted = functools.partial(jax.jit, static_argnames="noise")(impute)


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_it_is_the_dense_solve(share, scale):
    rng = np.random.default_rng(0)
    images = (scale * rng.random((3, 12, 17, 2))).astype(np.float32)
    kept = rng.random((3, 12, 17)) < share
    kept[:, 5, 5] = True
    found = jitted(images, kept, noise=0.0)
    expected = [dense(image, there) for image, there in zip(images, kept, strict=True)]
    np.testing.assert_allclose(found, expected, atol=5e-5 * scale)
    np.testing.assert_array_equal(np.asarray(found)[kept], images[kept])


@pytest.mark.slow
def test_a_hole_in_a_ramp_is_the_ramp():
    ramp = np.broadcast_to((3 * np.arange(40)[:, None] - np.arange(30))[None, ..., None], (1, 40, 30, 1)).astype(float)
    kept = np.ones((1, 40, 30), bool)
    kept[:, 4:36, 5:25] = False
    np.testing.assert_allclose(jitted(ramp, kept, noise=0.0), ramp, atol=2e-3)  # of 120


@pytest.mark.slow
def test_one_pixel_alone_is_everywhere():
    images = np.random.default_rng(0).random((1, 9, 9, 3))
    kept = np.zeros((1, 9, 9), bool)
    kept[0, 2, 7] = True
    np.testing.assert_allclose(
        jitted(images, kept, noise=0.0), np.broadcast_to(images[:, 2:3, 7:8], images.shape), rtol=1e-5
    )


@pytest.mark.slow
def test_the_noise_is_a_share_of_the_deviation_and_hangs_on_the_key():
    images = 10 * np.random.default_rng(0).normal(size=(2, 64, 64, 3)) * np.array([1, 3])[:, None, None, None]
    kept = np.zeros((2, 64, 64), bool)
    kept[:, 0, 0] = True
    one, two = jax.random.key(1), jax.random.key(2)
    first = np.asarray(jitted(images, kept, noise=0.1, key=one))
    noise = first - jitted(images, kept, noise=0.0)
    np.testing.assert_allclose(noise.std(axis=(1, 2, 3)), [1, 3], rtol=0.05)
    np.testing.assert_allclose(jitted(images[:1], kept[:1], noise=0.1, key=one), first[:1], rtol=1e-5)
    assert (jitted(images, kept, noise=0.1, key=two) != first).any()


@pytest.mark.slow
def test_all_or_nothing_kept_and_jitted():
    images = np.random.default_rng(0).random((1, 6, 6, 1)).astype(np.float32)
    np.testing.assert_array_equal(jitted(images, np.ones((1, 6, 6), bool)), images)
    np.testing.assert_array_equal(impute(images, np.zeros((1, 6, 6), bool), noise=0.0), 0 * images)
