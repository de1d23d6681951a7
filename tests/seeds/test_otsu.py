import jax.numpy as jnp
import numpy as np
import pytest
import skimage.filters

from fcam_jax.seeds.otsu import histogram, otsu_threshold


def thresholds(levels):
    return np.asarray(otsu_threshold(histogram(jnp.asarray(levels, jnp.int32))))


def test_histogram_counts_every_level():
    levels = np.random.default_rng(0).integers(0, 256, (3, 9, 11))
    counts = np.asarray(histogram(jnp.asarray(levels)))
    for image, count in zip(levels, counts, strict=True):
        np.testing.assert_array_equal(count, np.bincount(image.ravel(), minlength=256))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uniform", "skewed", "narrow", "bimodal", "two_levels"])
def test_threshold_is_scikit_images(kind):
    rng = np.random.default_rng(1)
    maps = {
        "uniform": rng.integers(0, 256, (24, 20, 17)),
        "skewed": np.floor(255 * rng.random((24, 20, 17)) ** 4),
        "narrow": rng.integers(100, 110, (24, 20, 17)),
        "bimodal": np.clip(np.where(rng.random((24, 20, 17)) < 0.2, 200, 40) + rng.normal(0, 15, (24, 20, 17)), 0, 255),
        "two_levels": rng.choice([3, 250], (24, 20, 17)),
    }[kind].astype(np.uint8)
    expected = [skimage.filters.threshold_otsu(image) for image in maps]
    np.testing.assert_array_equal(thresholds(maps), expected)


def test_threshold_of_a_large_map_is_not_blurred_by_rounding():
    # At 512 x 512 the sums exceed what float32 holds exactly.
    image = np.random.default_rng(2).integers(0, 256, (1, 512, 512)).astype(np.uint8)
    assert thresholds(image)[0] == skimage.filters.threshold_otsu(image[0])


@pytest.mark.parametrize("level", [0, 17, 255])
def test_a_map_of_one_level_has_threshold_zero(level):
    assert thresholds(np.full((1, 5, 5), level))[0] == 0
