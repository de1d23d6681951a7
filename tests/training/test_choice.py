"""Which of several models validation keeps: the highest figure, and within its noise the one with the best classes."""

import math

import numpy as np
import pytest

from fcam_jax.training.choice import noise, replaces


def models(*figures, images=30):
    return [{"places": float(a), "classes": float(b), "images": float(images)} for a, b in figures]


def kept_of(history, by, ties=""):
    """Place of the model that is kept when these come one after the other."""
    kept, highest = 0, history[0][by]
    for place, values in enumerate(history[1:], 1):
        highest = max(highest, values[by])
        if replaces(values, history[kept], highest, by, ties):
            kept = place
    return kept


def test_the_noise_is_the_standard_error_of_a_share():
    hits = np.random.default_rng(0).binomial(30, 0.7, 100_000)
    assert noise(70.0, 30.0) == pytest.approx(100 * np.std(hits / 30), rel=0.01)
    assert noise(70.0, 0.0) == noise(70.0, math.inf) == 0


@pytest.mark.parametrize("percent", [0.0, 97.2, 100.0])
def test_one_image_is_within_the_noise(percent):
    assert noise(percent, 36.0) == pytest.approx(100 / 36, rel=1e-5)
    assert kept_of(models((100 * 35 / 36, 58), (100 * 34 / 36, 75), images=36), "places", "classes") == 1


@pytest.mark.parametrize(
    ("figures", "kept"),
    [
        ([(70, 75), (73, 58)], 0),  # within the noise of 8: the better classes
        ([(73, 58), (70, 75)], 1),
        ([(70, 75), (70, 75), (73, 75), (73, 75)], 2),  # the same classes: the higher figure, then the first
        ([(50, 99), (70, 60)], 1),  # beyond the noise of the new maximum
        ([(70, 60), (50, 99)], 0),  # beyond that of the one before
        ([(66, 80), (73, 60), (78, 50)], 2),  # beyond, once the maximum has risen twice
        ([(66, 80), (73, 60), (67, 70)], 0),
    ],
)
def test_classes_choose_within_the_noise_alone(figures, kept):
    assert kept_of(models(*figures), "places", "classes") == kept


def test_on_many_images_the_maximum_is_kept():
    assert kept_of(models((70, 75), (73, 58), images=3000), "places", "classes") == 1


def test_without_another_figure_the_first_maximum_is_kept():
    history = models((70, 75), (73, 58), (73, 99))
    assert kept_of(history, "places") == kept_of(history, "places", "unknown") == 1


def test_classes_that_stay_as_they_are_change_nothing():
    rng = np.random.default_rng(1)
    history = models(*((places, 60) for places in rng.integers(0, 101, 200).tolist()))
    for end in range(1, 200):
        assert kept_of(history[:end], "places", "classes") == kept_of(history[:end], "places")
