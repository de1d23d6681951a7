"""The calls for any arrays: the scale done for the caller, and every mistake in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax import losses
from fcam_jax.errors import InputError
from fcam_jax.losses.crf_energy import crf_energy
from fcam_jax.losses.dense_crf import _energy

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 12, 10, 3)).astype(np.uint8)
FOREGROUND = RNG.random((2, 12, 10)).astype(np.float32)


def plain(number, image=IMAGES, foreground=FOREGROUND, sigma_xy=100.0):
    """R by the matrix of all pairs in float64, as at 224 x 224 pixels."""
    height, width = foreground.shape[1:]
    scale = np.sqrt(height * width) / 224
    places = np.stack(np.mgrid[:height, :width], -1).reshape(-1, 2) / (sigma_xy * scale)
    points = np.concatenate([places, image[number].reshape(-1, 3) / 15.0], 1)
    kernel = np.exp(-np.square(points[:, None] - points).sum(-1) / 2)
    maps = np.stack([1 - foreground[number], foreground[number]], -1).reshape(-1, 2).astype(np.float64)
    return -(maps * (kernel @ maps)).sum() / scale**4


@pytest.mark.slow
def test_the_energy_is_that_of_all_pairs_at_the_reference_size():
    """Whatever holds them; in one program, which takes a second less than each operation by itself."""
    softmax = np.stack([1 - FOREGROUND, FOREGROUND], -1)
    unit = IMAGES / np.float32(255)
    ways = (
        (FOREGROUND, IMAGES),
        (FOREGROUND[..., None], IMAGES.astype(np.float32)),
        (softmax, unit),
        (softmax.tolist(), IMAGES.tolist()),
    )

    @jax.jit
    def energies():
        alone = losses.dense_crf(FOREGROUND[1], IMAGES[1], form="exact", sigma_xy=30.0)
        return [losses.dense_crf(maps, images, form="exact") for maps, images in ways], alone

    together, alone = energies()
    for found in together:
        np.testing.assert_allclose(found, [plain(0), plain(1)], rtol=1e-4)
    np.testing.assert_allclose(alone, plain(1, sigma_xy=30.0), rtol=1e-4)
    assert alone.shape == ()


@pytest.mark.slow
def test_a_small_map_is_enlarged_and_the_default_keys_are_those_of_the_places():
    small = FOREGROUND[:, ::2, ::2]
    large = jax.image.resize(jnp.asarray(small), FOREGROUND.shape, "bilinear")
    np.testing.assert_allclose(losses.dense_crf(small, IMAGES), losses.dense_crf(large, IMAGES), rtol=1e-5)
    keys = jax.vmap(lambda place: jax.random.fold_in(jax.random.key(0), place))(jnp.arange(2))
    maps = jnp.stack([1 - FOREGROUND, FOREGROUND], -1)
    scale = np.sqrt(120) / 224
    images = jnp.asarray(IMAGES, jnp.float32)
    expected = crf_energy(maps, images, keys, sigma_xy=100 * scale, sigma_rgb=15.0) / scale**4
    for key in (None, 0, jax.random.key(0), keys):
        np.testing.assert_allclose(losses.dense_crf(FOREGROUND, IMAGES, key), expected, rtol=1e-5)
    assert np.abs(losses.dense_crf(FOREGROUND, IMAGES, 1) - expected).max() > 0


@pytest.mark.slow
def test_a_setting_may_be_an_array_of_one_number_and_equal_settings_are_compiled_once():
    expected = losses.dense_crf(FOREGROUND, IMAGES, sigma_xy=30.0)
    compiled = _energy._cache_size()
    for width in (np.float64(30), np.array([30.0]), jnp.float32(30)):
        np.testing.assert_array_equal(losses.dense_crf(FOREGROUND, IMAGES, sigma_xy=width), expected)
    assert _energy._cache_size() == compiled
    with pytest.raises(InputError, match=r"^sigma_xy is \[1. 2.\]; it must be above 0$"):
        losses.dense_crf(FOREGROUND, IMAGES, sigma_xy=np.array([1.0, 2.0]))


def test_the_gradient_in_a_foreground_map_is_the_plain_ones():
    found = jax.jit(jax.grad(lambda maps: losses.dense_crf(maps, IMAGES, form="exact").sum()))(FOREGROUND)
    step = np.zeros_like(FOREGROUND)
    step[0, 3, 4] = 0.01
    difference = (plain(0, foreground=FOREGROUND + step) - plain(0, foreground=FOREGROUND - step)) / 0.02
    np.testing.assert_allclose(found[0, 3, 4], difference, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": FOREGROUND[:1]}, r"maps have the shape \(1, 12, 10\) and images \(2, 12, 10, 3\); they do not fit"),
        ({"maps": FOREGROUND.repeat(2, 1)}, "maps have the shape .*; they do not fit"),
        ({"maps": 3 * FOREGROUND}, r"maps lie in \[.*\]; they must lie in \[0, 1\]"),
        ({"maps": FOREGROUND * np.nan}, "maps hold NaN or infinities"),
        ({"images": IMAGES[..., :1]}, r"images have the shape \(2, 12, 10, 1\); it must be .*"),
        ({"images": IMAGES / 127.5 - 1}, r"images lie in \[.*\]; they must lie in \[0, 255\] or, as floats, .*"),
        ({"images": IMAGES / 255 * 1.5}, r"images lie in \[0, 1.5\]; they must lie in .*"),
        ({"images": "bird.jpg"}, "images: no array of numbers .*"),
        ({"keys": jax.random.split(jax.random.key(0), 3)}, r"there are keys of the shape \(3,\) for 2 images"),
        ({"keys": 0.5}, "the key must be a seed, or made by jax.random.key"),
        ({"sigma": 3.0}, "unknown setting of the dense CRF: 'sigma'; known: amplitude, .*"),
        ({"sigma_xy": 0.0}, "sigma_xy is 0.0; it must be above 0"),
    ],
)
def test_a_mistake_in_the_dense_crf_is_told_in_one_line(changes, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        losses.dense_crf(**{"maps": FOREGROUND, "images": IMAGES} | changes)


def test_floats_of_unknown_range_are_refused_in_a_compiled_function():
    compiled = jax.jit(losses.dense_crf)
    np.testing.assert_allclose(compiled(FOREGROUND, IMAGES), losses.dense_crf(FOREGROUND, IMAGES), rtol=1e-5)
    with pytest.raises(InputError, match=r"^images are floats whose range is not known in a compiled function"):
        compiled(FOREGROUND, IMAGES / np.float32(255))


@pytest.mark.slow
def test_lists_and_single_images_have_a_cross_entropy_and_a_barrier():
    scores, seeds = [[[2.0, 1.0], [0.0, 3.0]]], [[1, -1]]
    np.testing.assert_allclose(losses.partial_cross_entropy(scores, seeds), np.log(np.e + 1), rtol=1e-6)
    np.testing.assert_allclose(
        losses.log_barrier([-4, 2], 2.0), [-np.log(4) / 2, 4 - np.log(0.25) / 2 + 0.5], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("logits", "seeds", "message"),
    [
        (np.zeros((1, 2, 3, 2)), np.zeros((1, 2, 4), int), r"logits have the shape .* and seeds \(1, 2, 4\); .*"),
        (np.zeros((1, 2, 3, 1)), np.zeros((1, 2, 3), int), "logits have the shape .* with 2 regions or more"),
        (np.zeros((2, 3, 2)), np.full((2, 3), 2), "seeds must be integers below the number of regions, 2, .*"),
        (np.zeros((2, 3, 2)), np.zeros((2, 3)), "seeds must be integers .*"),
    ],
)
def test_a_mistake_in_the_cross_entropy_is_told_in_one_line(logits, seeds, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        losses.partial_cross_entropy(logits, seeds)


def test_a_barrier_needs_a_sharpness():
    with pytest.raises(InputError, match=r"^t is 0; it must be above 0$"):
        losses.log_barrier([-1.0], 0)


@pytest.mark.slow
def test_arrays_that_a_compiled_function_holds_are_looked_at_too():
    def total(maps):
        energy = losses.dense_crf(maps, IMAGES / np.float32(255), form="exact").sum()
        return energy + losses.partial_cross_entropy(jnp.stack([maps, -maps], -1), jnp.ones(maps.shape, int))

    np.testing.assert_allclose(jax.jit(total)(FOREGROUND), total(FOREGROUND), rtol=1e-5)
    constant = jax.jit(lambda: losses.dense_crf(FOREGROUND, IMAGES) + losses.log_barrier([-1.0, 2.0], 2.0))()
    np.testing.assert_allclose(constant, losses.dense_crf(FOREGROUND, IMAGES), rtol=1e-5)


def test_images_that_a_jitted_caller_closes_over_are_not_sorted_by_the_compiler():
    program = jax.jit(lambda maps: losses.dense_crf(maps, IMAGES)).lower(FOREGROUND).compile()
    assert " sort(" in program.as_text()
