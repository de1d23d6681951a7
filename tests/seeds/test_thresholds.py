import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.filters
from jax.sharding import AxisType

from fcam_jax.errors import InputError
from fcam_jax.seeds.fixed import fixed_threshold
from fcam_jax.seeds.li import li_threshold
from fcam_jax.seeds.otsu import histogram
from fcam_jax.seeds.sampling import SeedSettings, sampling_regions

PLAIN = SeedSettings(background_fraction=0.5, foreground_count=1, background_count=1, erosion=0.0, dilation=0.0)


def li(levels):
    return np.asarray(li_threshold(histogram(jnp.asarray(levels, jnp.int32))))


def maps_of(kind, shape=(40, 20, 17)):
    rng = np.random.default_rng(1)
    return {
        "uniform": lambda: rng.integers(0, 256, shape),
        "skewed": lambda: np.floor(255 * rng.random(shape) ** 4),
        "narrow": lambda: rng.integers(100, 110, shape),
        "bimodal": lambda: np.clip(np.where(rng.random(shape) < 0.2, 200, 40) + rng.normal(0, 15, shape), 0, 255),
        "two_levels": lambda: rng.choice([3, 250], shape),
        "few_levels": lambda: rng.choice([3, 4, 90, 254], shape),
        "mostly_zero": lambda: rng.integers(0, 256, shape) * (rng.random(shape) < 0.1),
        "large": lambda: np.floor(255 * rng.random((1, 512, 512)) ** 2),
        "constant": lambda: np.arange(256).reshape(-1, 1, 1) * np.ones((1, 4, 5)),
    }[kind]().astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    ["uniform", "skewed", "narrow", "bimodal", "two_levels", "few_levels", "mostly_zero", "large", "constant"],
)
def test_lis_threshold_is_scikit_images(kind):
    maps = maps_of(kind)
    expected = [np.floor(skimage.filters.threshold_li(image)) for image in maps]
    np.testing.assert_array_equal(li(maps), expected)


@pytest.mark.slow
def test_a_maps_threshold_does_not_depend_on_its_batch():
    # They take different numbers of steps.
    maps = np.concatenate([maps_of(kind)[:2] for kind in ("skewed", "narrow", "two_levels", "mostly_zero")])
    np.testing.assert_array_equal(li(maps), np.concatenate([li(image[None]) for image in maps]))


@pytest.mark.slow
def test_lis_threshold_runs_on_a_mesh():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    maps = jnp.asarray(maps_of("skewed")[:8], jnp.float32) / 255
    settings = dataclasses.replace(PLAIN, threshold="li")
    spread = jax.P("data")
    mapped = jax.jit(
        jax.shard_map(lambda cams: sampling_regions(cams, settings), mesh=mesh, in_specs=spread, out_specs=spread)
    )
    for there, here in zip(mapped(maps), sampling_regions(maps, settings), strict=True):
        np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
def test_a_fixed_threshold_is_a_share_of_each_maps_range(share):
    levels = np.random.default_rng(2).integers(40, 201, (3, 12, 12))
    levels[:, 0, :2] = [40, 200]
    levels[2] -= 40
    thresholds = fixed_threshold(histogram(jnp.asarray(levels)), share)
    for image, threshold in zip(levels, np.asarray(thresholds), strict=True):
        np.testing.assert_array_equal(image > threshold, (image - image.min()) / np.ptp(image) > share)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["otsu", "li", "fixed"])
def test_the_region_lies_above_the_chosen_threshold(name):
    levels = maps_of("skewed")
    region = sampling_regions(
        jnp.asarray((levels + np.float32(0.5)) / 255), dataclasses.replace(PLAIN, threshold=name, fixed_threshold=0.8)
    )[0]
    of_image = {
        "otsu": skimage.filters.threshold_otsu,
        "li": skimage.filters.threshold_li,
        "fixed": lambda image: int(image.min()) + 0.8 * int(np.ptp(image)),
    }[name]
    np.testing.assert_array_equal(region, [image > of_image(image) for image in levels])


@pytest.mark.parametrize("name", ["otsu", "li", "fixed"])
def test_a_constant_map_has_no_regions(name):
    for value in (0.0, 0.4, 1.0):
        foreground, background = sampling_regions(
            jnp.full((1, 6, 6), value), dataclasses.replace(PLAIN, threshold=name)
        )
        assert not foreground.any() and not background.any()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threshold", "triangle", "threshold is 'triangle'; known: fixed, li, otsu"),
        ("draw", "grid", "draw is 'grid'; known: blocks, uniform"),
        ("fixed_threshold", 0.0, "fixed_threshold is 0.0; it must lie in (0, 1)"),
        ("fixed_threshold", 1.0, "fixed_threshold is 1.0; it must lie in (0, 1)"),
        (
            "block_size",
            32.0,
            "block_size is 32.0; it must be a share of the image's side, at least 0 and below 1: "
            "11 pixels of 224 are 0.049",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_answered_in_one_line(name, value, message):
    with pytest.raises(InputError) as caught:
        dataclasses.replace(PLAIN, **{name: value})
    assert str(caught.value) == message
