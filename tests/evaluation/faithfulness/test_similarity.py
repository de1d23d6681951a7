"""Likeness of maps against SciPy and scikit-image."""

import numpy as np
import pytest
import scipy.stats
import skimage.metrics

from fcam_jax.evaluation.faithfulness import pearson, spearman, ssim


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(4, 20, 27)).astype(np.float32)
    second = (first + rng.normal(size=first.shape)).astype(np.float32)
    first[1], second[1] = np.round(first[1]), np.round(2 * second[1])  # ties
    second[2] = -np.exp(first[2])
    return first, second * 1e-20


@pytest.mark.slow
def test_correlations_are_scipys(pairs):
    for ours, theirs in ((pearson, scipy.stats.pearsonr), (spearman, scipy.stats.spearmanr)):
        expected = [
            theirs(one.ravel().astype(float), other.ravel().astype(float)).statistic
            for one, other in zip(*pairs, strict=True)
        ]
        np.testing.assert_allclose(ours(*pairs), expected, atol=1e-5)
    assert spearman(*pairs)[2] == pytest.approx(-1)


@pytest.mark.slow
def test_structural_similarity_is_that_of_scikit_image(pairs):
    def scaled(one):
        return (one.astype(float) - one.min()) / (float(one.max()) - one.min())

    expected = [
        skimage.metrics.structural_similarity(
            scaled(one), scaled(other), data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for one, other in zip(*pairs, strict=True)
    ]
    np.testing.assert_allclose(ssim(*pairs), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (6, 6), (11, 30)])
def test_equal_maps_are_alike_at_any_size(shape):
    maps = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    np.testing.assert_allclose(ssim(maps, maps), 1, rtol=1e-5)


def test_a_constant_map_correlates_with_nothing(pairs):
    constant = np.full_like(pairs[0], 0.1)
    for one in (pearson, spearman):
        np.testing.assert_array_equal(one(pairs[0], constant), 0)
        np.testing.assert_array_equal(one(constant, constant), 0)
    np.testing.assert_allclose(ssim(constant, 2 * constant), 1)
