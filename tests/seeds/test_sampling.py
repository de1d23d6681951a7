import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.filters
import skimage.morphology

from configs import cub50, synthetic
from fcam_jax.errors import InputError
from fcam_jax.seeds.sampling import (
    BACKGROUND,
    FOREGROUND,
    UNKNOWN,
    SeedSettings,
    dead_seeds,
    draw_seeds,
    odd_side,
    sampling_regions,
    whole_side,
)

ONE = SeedSettings(background_fraction=0.5, foreground_count=1, background_count=1, erosion=3 / 24, dilation=0.0)


def smooth_maps(count, side=24):
    """Bumps at random places on a slope, in [0, 1]."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side]
    centres = rng.uniform(4, side - 4, (count, 2, 1, 1))
    maps = np.exp(-((y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2) / 30) + 0.02 * x / side
    return (maps / maps.max((1, 2), keepdims=True)).astype(np.float32)


def draw(maps, settings, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(maps))
    return np.asarray(draw_seeds(keys, jnp.asarray(maps), settings))


@pytest.mark.slow
def test_foreground_region_is_otsu_then_erosion():
    maps = smooth_maps(6)
    regions = np.asarray(sampling_regions(jnp.asarray(maps), ONE)[0])
    for image, region in zip(maps, regions, strict=True):
        levels = np.floor(image * 255).astype(np.uint8)
        above = levels > skimage.filters.threshold_otsu(levels)
        expected = skimage.morphology.erosion(above, np.ones((3, 3), bool), mode="max")
        np.testing.assert_array_equal(region, expected if expected.any() else above)


@pytest.mark.slow
def test_erosion_that_leaves_nothing_is_not_applied():
    maps = np.zeros((1, 24, 24), np.float32)
    maps[0, 10:12, 5:7] = 1.0
    region = np.asarray(sampling_regions(jnp.asarray(maps), dataclasses.replace(ONE, erosion=11 / 24))[0])
    np.testing.assert_array_equal(region, maps > 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.1, 0.37, 1.0])
def test_background_region_holds_the_lowest_fraction(fraction):
    maps = smooth_maps(5)
    settings = dataclasses.replace(ONE, background_fraction=fraction)
    weights = np.asarray(sampling_regions(jnp.asarray(maps), settings)[1])
    np.testing.assert_allclose(weights.sum((1, 2)), fraction * 24 * 24, rtol=1e-5)
    for image, weight in zip(maps, weights, strict=True):
        levels = np.floor(image * 255)
        border = np.sort(levels.ravel())[int(np.ceil(fraction * levels.size)) - 1]
        assert (weight[levels < border] == 1).all()
        assert (weight[levels > border] == 0).all()
        assert np.ptp(weight[levels == border]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_constant_map_gives_no_seeds(value):
    assert (draw(np.full((2, 12, 12), value, np.float32), ONE) == UNKNOWN).all()


@pytest.mark.slow
def test_counts_dilation_and_regions_of_the_draws():
    maps = smooth_maps(8)
    settings = dataclasses.replace(ONE, foreground_count=4, background_count=9)
    seeds = draw(maps, settings)
    foreground, background = map(np.asarray, sampling_regions(jnp.asarray(maps), settings))
    assert ((seeds == FOREGROUND).sum((1, 2)) == np.minimum(4, foreground.sum((1, 2)))).all()
    assert ((seeds == BACKGROUND).sum((1, 2)) == 9).all()
    assert foreground[seeds == FOREGROUND].all()
    assert (background[seeds == BACKGROUND] > 0).all()
    grown = draw(maps, dataclasses.replace(settings, foreground_count=1, background_count=0, dilation=3 / 24))
    assert set((grown == FOREGROUND).sum((1, 2))) <= {4, 6, 9}
    assert not (grown == BACKGROUND).any()


@pytest.mark.slow
def test_a_pixel_that_both_draws_reach_is_unknown():
    maps = np.zeros((1, 6, 6), np.float32)
    maps[0, 3, 3] = 1.0
    everywhere = SeedSettings(1.0, 1, 36, 0.0, 0.0)
    seeds = draw(maps, everywhere)
    assert seeds[0, 3, 3] == UNKNOWN
    assert (seeds == BACKGROUND).sum() == 35


@pytest.mark.slow
def test_draws_are_uniform_over_a_region():
    maps = np.zeros((1, 4, 5), np.float32)
    maps[0, 1:3, 1:4] = 1.0
    keys = jax.random.split(jax.random.key(0), 3000)
    many = jnp.broadcast_to(jnp.asarray(maps), (3000, 4, 5))
    settings = SeedSettings(0.5, 1, 1, 0.0, 0.0)
    seeds = np.asarray(draw_seeds(keys, many, settings))
    hits = (seeds == FOREGROUND).sum(0)[1:3, 1:4]
    # Six cells of 500 expected hits, standard deviation 20.4: five of them allowed.
    assert hits.sum() == 3000 and np.abs(hits - 500).max() < 102
    outside = (seeds == BACKGROUND).sum(0)[maps[0] == 0]
    assert np.abs(outside - 3000 / 14).max() < 5 * np.sqrt(3000 / 14)


@pytest.mark.slow
def test_an_images_draw_does_not_depend_on_its_batch():
    maps = jnp.asarray(smooth_maps(6))
    keys = jax.random.split(jax.random.key(5), 6)
    whole = np.asarray(draw_seeds(keys, maps, ONE))
    np.testing.assert_array_equal(whole[2:4], draw_seeds(keys[2:4], maps[2:4], ONE))
    order = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_array_equal(whole[order], draw_seeds(keys[order], maps[order], ONE))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("background_fraction", 0.0),
        ("background_fraction", 1.2),
        ("erosion", 11.0),
        ("erosion", 1.0),
        ("dilation", -0.1),
        ("block_size", float("nan")),
        ("foreground_count", -1),
    ],
)
def test_settings_outside_their_range_are_named(name, value):
    with pytest.raises(InputError, match=name):
        dataclasses.replace(ONE, **{name: value})


@pytest.mark.parametrize(
    ("size", "settings", "pixels"),
    [
        ((224, 224), SeedSettings(), (11, 3, 32)),
        ((448, 448), SeedSettings(), (21, 5, 64)),
        ((112, 448), SeedSettings(), (11, 3, 32)),
        ((8, 8), SeedSettings(), (1, 1, 1)),
        ((128, 128), SeedSettings(**cub50.get_config("mobilenet_v1_075").fcam.seeds), (7, 3, 18)),
        ((224, 224), SeedSettings(**cub50.get_config().fcam.seeds), (11, 3, 32)),
        ((64, 64), SeedSettings(**synthetic.get_config().fcam.seeds), (3, 1, 9)),
    ],
)
def test_shares_of_the_side_are_these_pixels(size, settings, pixels):
    maps = jnp.zeros((1, *size))
    sides = odd_side(settings.erosion, maps), odd_side(settings.dilation, maps), whole_side(settings.block_size, maps)
    assert sides == pixels


def test_an_image_is_dead_where_it_lacks_a_kind_of_seeds_that_is_drawn():
    seeds = np.full((4, 3, 3), UNKNOWN, np.int32)
    seeds[0, 0, 0] = seeds[1, 0, 0] = FOREGROUND
    seeds[0, 1, 1] = seeds[2, 1, 1] = BACKGROUND
    for settings, share in (
        (ONE, 75.0),
        (dataclasses.replace(ONE, background_count=0), 50.0),
        (dataclasses.replace(ONE, foreground_count=0, background_count=0), 0.0),
    ):
        assert float(dead_seeds(jnp.asarray(seeds), settings)) == share
