"""Drop, increase, gain and ADCC against plain loops, and closed forms of a network that sees the mean of the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fcam_jax.errors import InputError
from fcam_jax.evaluation import faithfulness

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, 8, 8, 3)).astype(np.float32)
MAPS = RNG.normal(size=(6, 8, 8)).astype(np.float32)
LABELS = RNG.integers(0, 3, 6)
WEIGHTS = RNG.normal(size=(8, 8, 3, 3)).astype(np.float32) / 4
BASELINE = np.array([0.5, -0.2, 0.1])


def linear(weights, images):
    return jnp.einsum("bhwc,hwck->bk", images, weights)


NETWORK = jax.tree_util.Partial(linear, WEIGHTS)


def mean_of_pixels(images):
    return images.mean(axis=(1, 2, 3))[:, None]


def probability(image, label):
    scores = np.einsum("hwc,hwck->k", image, WEIGHTS.astype(np.float64))
    return np.exp(scores[label]) / np.exp(scores).sum()


def scaled(score_map):
    return (score_map - score_map.min()) / (score_map.max() - score_map.min())


def through(image, score_map):
    mask = scaled(score_map)[..., None]
    return mask * image + (1 - mask) * BASELINE


def test_drop_increase_and_gain_are_those_of_a_loop():
    found = faithfulness.confidence(NETWORK, IMAGES, MAPS, LABELS, baseline=BASELINE, batch_size=4)
    for i in range(6):
        y, o = probability(IMAGES[i], LABELS[i]), probability(through(IMAGES[i], MAPS[i]), LABELS[i])
        expected = {
            "average_drop": max(0, y - o) / y,
            "increase": float(o > y),
            "average_gain": max(0, o - y) / (1 - y),
        }
        assert {name: values[i] for name, values in found.items()} == pytest.approx(expected, abs=1e-5)
    assert 0 < found["increase"].mean() < 1  # both cases are there


def test_a_mask_of_one_half_halves_the_mean():
    images, maps = np.full((1, 4, 4, 1), 0.8), np.zeros((1, 4, 4))
    maps[:, :2] = 1
    found = faithfulness.confidence(mean_of_pixels, images, maps, watch="output")
    assert {name: values.item() for name, values in found.items()} == pytest.approx(
        {"average_drop": 0.5, "increase": 0, "average_gain": 0}
    )
    found = faithfulness.confidence(mean_of_pixels, images, maps, watch="output", baseline=1)
    assert {name: values.item() for name, values in found.items()} == pytest.approx(
        {"average_drop": 0, "increase": 1, "average_gain": 0.5}
    )


def test_a_constant_map_shows_the_baseline_alone_and_nothing_is_divided_by_0():
    images, maps = np.array([0.0, 1, 0.5]).reshape(3, 1, 1, 1) * np.ones((3, 4, 4, 1)), np.ones((3, 4, 4))
    found = faithfulness.confidence(mean_of_pixels, images, maps, watch="output", baseline=0.25)
    np.testing.assert_allclose(found["average_drop"], [0, 0.75, 0.5])
    np.testing.assert_allclose(found["average_gain"], [0.25, 0, 0])


def gradient_times_input(images, labels):
    return (images * jnp.moveaxis(WEIGHTS[..., labels], -1, 0)).sum(axis=-1)


@pytest.mark.slow
def test_adcc_is_that_of_a_loop():
    found = faithfulness.adcc(NETWORK, gradient_times_input, IMAGES, LABELS, baseline=BASELINE, batch_size=4)
    for i in range(6):
        explain = lambda image: (image * WEIGHTS[..., LABELS[i]]).sum(axis=-1)  # noqa: B023, E731
        first = explain(IMAGES[i])
        shown = through(IMAGES[i], first)
        coherency = (1 + scipy.stats.pearsonr(first.ravel(), explain(shown).ravel()).statistic) / 2
        complexity, y = scaled(first).mean(), probability(IMAGES[i], LABELS[i])
        drop = max(0, y - probability(shown, LABELS[i])) / y
        mean = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))
        expected = {"adcc": mean, "coherency": coherency, "complexity": complexity, "average_drop": drop}
        assert {name: values[i] for name, values in found.items()} == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_adcc_of_a_constant_map_and_of_a_whole_drop():
    found = faithfulness.adcc(
        mean_of_pixels, lambda images, labels: jnp.ones(images.shape[:3]), abs(IMAGES), watch="output"
    )
    assert (found["average_drop"] == 1).all() and (found["adcc"] == 0).all()
    assert (found["coherency"] == 0.5).all() and (found["complexity"] == 0).all()


def test_a_cam_of_another_size_or_number_is_refused():
    with pytest.raises(InputError, match=r"^maps are 6 x 4 x 8, images 6 x 8 x 8: give a map for each image"):
        faithfulness.adcc(NETWORK, lambda images, labels: images[:, :4, :, 0], IMAGES)
    with pytest.raises(InputError, match=r"^explain returns 5 maps of 6 images; it must return one for each$"):
        faithfulness.adcc(NETWORK, lambda images, labels: images[:5, :, :, 0], IMAGES)
