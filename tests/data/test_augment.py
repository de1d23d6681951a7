"""Augmentations against other libraries, their probabilities, and their independence of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import scipy.ndimage

from fcam_jax.data.augment import AUGMENTATIONS, augmenter
from fcam_jax.errors import InputError

COUNT, SIDE = 400, 40


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Smooth colours and edges."""
    noise = np.random.default_rng(0).random((COUNT, SIDE, SIDE, 3))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 3, 3, 0))
    levels = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    levels[:, : SIDE // 2, : SIDE // 2] = 0.2
    return np.rint(255 * levels).astype(np.uint8)


@pytest.fixture(scope="module")
def augmented(images) -> dict[str, np.ndarray]:
    keys = jax.random.split(jax.random.key(0), COUNT)
    return {name: np.asarray(jax.jit(augmenter([name]))(keys, jnp.asarray(images))) for name in AUGMENTATIONS}


def changed(images, augmented) -> np.ndarray:
    return np.flatnonzero((images != augmented).any(axis=(1, 2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "probability"), [("jitter", 0.8), ("grayscale", 0.2), ("solarize", 0.2)])
def test_an_image_is_changed_with_the_published_probability(images, augmented, name, probability):
    share = len(changed(images, augmented[name])) / COUNT
    assert abs(share - probability) < 4 * np.sqrt(probability * (1 - probability) / COUNT)


def test_grayscale_is_scikit_images_luma_of_rec_601(images, augmented):
    for index in changed(images, augmented["grayscale"]):
        luma = images[index] @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(augmented["grayscale"][index], np.stack([luma] * 3, -1), atol=1)


def test_solarize_is_pillows(images, augmented):
    for index in changed(images, augmented["solarize"])[:20]:
        expected = PIL.ImageOps.solarize(PIL.Image.fromarray(images[index]), threshold=128)
        np.testing.assert_allclose(augmented["solarize"][index], np.asarray(expected), atol=1)


def test_blur_is_scipys_gaussian_of_some_width_in_the_range(images, augmented):
    widest = 2.0 * SIDE / 224
    widths = np.linspace(0.02, widest, 40)
    indices = changed(images, augmented["blur"])
    assert 0.1 < len(indices) / COUNT < 0.6  # one half, but for those of hardly a width
    for index in indices[:10]:
        blurred = [
            scipy.ndimage.gaussian_filter(
                images[index].astype(float), (width, width, 0), mode="nearest", radius=(2, 2, 0)
            )
            for width in widths
        ]
        errors = [np.abs(augmented["blur"][index] - one).max() for one in blurred]
        assert min(errors) < 1.6


@pytest.mark.slow
def test_jitter_keeps_to_its_ranges(images, augmented):
    index = changed(images, augmented["jitter"])
    before, after = images[index] / 255, augmented["jitter"][index] / 255
    shift = (after - before).mean(axis=(1, 2, 3))
    assert np.abs(shift).max() < 0.45 and np.abs(shift).max() > 0.3 and abs(shift.mean()) < 0.05
    assert len(np.unique(np.round(shift, 3))) > 100
    grey = np.repeat(images[:64, ..., :1], 3, axis=-1)  # it has no hue to be turned
    still_grey = jax.jit(augmenter(["jitter"]))(jax.random.split(jax.random.key(5), 64), jnp.asarray(grey))
    assert np.ptp(np.asarray(still_grey).astype(int), axis=-1).max() <= 1


@pytest.mark.slow
def test_an_images_draw_depends_on_its_key_alone(images):
    augment = jax.jit(augmenter(["jitter", "blur", "grayscale", "solarize"]))
    keys = jax.random.split(jax.random.key(1), 8)
    together = np.asarray(augment(keys, images[:8]))
    alone = [np.asarray(augment(keys[i : i + 1], images[i : i + 1]))[0] for i in (7, 2)]
    np.testing.assert_allclose(together[[7, 2]].astype(int), np.stack(alone).astype(int), atol=1)
    assert len(np.unique(np.asarray(augment(keys, np.stack([images[0]] * 8))).reshape(8, -1), axis=0)) > 4


def test_no_name_is_no_augmentation_and_an_unknown_one_is_refused():
    assert augmenter([]) is None
    with pytest.raises(InputError, match=r"unknown augmentation 'jiter'; known: blur, grayscale, jitter, solarize"):
        augmenter(["blur", "jiter"])
