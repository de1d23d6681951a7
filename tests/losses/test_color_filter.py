import math

import jax
import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.losses.color_filter import TOP, ColorFilter, color_filtered
from fcam_jax.losses.normalized_cut import normalized_cut

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 10, 12, 3)).astype(np.uint8)
MAPS = RNG.random((2, 10, 12)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 2)
WIDTHS = {"sigma_xy": 60.0, "sigma_rgb": 90.0}
compiled_filter = jax.jit(color_filtered, static_argnums=3)
compiled_cut = jax.jit(normalized_cut, static_argnames=("sigma_xy", "sigma_rgb", "stride"))


def kernel(image):
    """K of every pair of pixels, by the formula."""
    height, width = image.shape[:2]
    side = math.sqrt(height * width) / 224
    places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).reshape(-1, 2)
    colours = image.reshape(-1, 3).astype(float)
    apart = ((places[:, None] - places) ** 2).sum(-1) / (2 * (WIDTHS["sigma_xy"] * side) ** 2)
    return np.exp(-apart - ((colours[:, None] - colours) ** 2).sum(-1) / (2 * WIDTHS["sigma_rgb"] ** 2))


def filtered(maps, images, share, stride=1):
    settings = ColorFilter(share=1.0, stride=stride, **WIDTHS)
    return np.asarray(compiled_filter(maps, images, KEYS[: len(maps)], settings, share))


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_the_filter_is_the_mean_over_pixels_weighted_by_the_kernel(share):
    found = filtered(MAPS, IMAGES, share)
    for image, cam, got in zip(IMAGES, MAPS, found, strict=True):
        weights = kernel(image)
        mean = (weights @ cam.ravel() / weights.sum(1)).reshape(cam.shape)
        mean = np.minimum(mean, np.quantile(mean, TOP))
        mean = (mean - mean.min()) / (mean.max() - mean.min())
        np.testing.assert_allclose(got, (1 - share) * cam + share * mean, atol=1e-5)


@pytest.mark.slow
def test_a_cam_of_a_part_covers_the_whole_of_its_colour_and_nothing_else():
    image, cam = np.full((1, 24, 24, 3), 60, np.uint8), np.zeros((1, 24, 24), np.float32)
    image[0, 4:20, 4:12] = 200
    cam[0, 6:14, 8:16] = 1  # half on the body, half beside it
    found = np.asarray(compiled_filter(cam, image, KEYS[:1], ColorFilter(stride=2), 1.0))[0]
    assert found[4:20, 4:12].min() > 0.6 > 0.3 > found[:, 12:].max()


def test_a_constant_map_stays_one():
    np.testing.assert_array_equal(filtered(np.full_like(MAPS, 0.3), IMAGES, 1.0), np.full_like(MAPS, 0.3))


@pytest.mark.parametrize("values", [{"share": 1.2}, {"sigma_xy": 0.0}, {"sigma_rgb": -1.0}, {"stride": 0}])
def test_settings_outside_their_range_are_refused(values):
    with pytest.raises(InputError, match=next(iter(values))):
        ColorFilter(**values)


def test_the_normalised_cut_is_that_of_the_formula():
    found = compiled_cut(MAPS, IMAGES, KEYS, stride=1, **WIDTHS)
    for image, cam, got in zip(IMAGES, MAPS, found, strict=True):
        weights, s = kernel(image), cam.ravel().astype(float)
        cut = s @ weights @ (1 - s)
        np.testing.assert_allclose(got, cut / (s @ weights.sum(1)) + cut / ((1 - s) @ weights.sum(1)), rtol=1e-5)


@pytest.mark.parametrize("value", [0.01, 0.5, 0.99])
def test_the_normalised_cut_of_a_flood_is_that_of_any_constant_map(value):
    found = compiled_cut(np.full((2, 10, 12), value, np.float32), IMAGES, KEYS, stride=1, **WIDTHS)
    np.testing.assert_allclose(found, 1, atol=1e-5)


@pytest.mark.slow
def test_the_normalised_cut_of_two_colours_is_zero_between_them_and_not_across():
    image = np.zeros((2, 16, 16, 3), np.uint8)
    image[:, :, 8:] = 250
    maps = np.zeros((2, 16, 16), np.float32)
    maps[0, :, 8:] = 1
    maps[1, 8:] = 1
    between, across = compiled_cut(maps, image, KEYS, stride=2)
    assert between < 1e-6 and across > 0.5
