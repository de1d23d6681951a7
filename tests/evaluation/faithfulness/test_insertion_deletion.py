"""Insertion and deletion against loops over single pixels, and closed forms of a linear network."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.evaluation import faithfulness

SIDE, CLASSES = 16, 3
BLANK = np.array([120.0, 110.0, 100.0], np.float32)


def linear(weights, images):
    return jnp.einsum("bhwc,hwck->bk", images, weights)


def mean_of_pixels(images):
    """A network of one class, whose score is the mean of all pixels."""
    return images.mean(axis=(1, 2, 3))[:, None]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
    maps = rng.random((4, SIDE, SIDE)).astype(np.float32)
    maps[1] = np.round(4 * maps[1]) / 4  # ties
    weights = rng.normal(size=(SIDE, SIDE, 3, CLASSES)).astype(np.float32) / 2000
    return images, maps, rng.integers(0, CLASSES, 4).astype(np.int32), weights


def plain_curves(image, score_map, label, weights, steps):
    """Both curves of one image, pixel after pixel."""

    def probability(shown):
        scores = np.einsum("hwc,hwck->k", shown, weights.astype(np.float64))
        return np.exp(scores[label]) / np.exp(scores).sum()

    blurred = cv2.GaussianBlur(image.astype(np.float64), (11, 11), 5, borderType=cv2.BORDER_REFLECT)
    order = sorted(range(SIDE * SIDE), key=lambda p: (-score_map.flat[p], p))
    curves = []
    for start, end in ((blurred, image), (image, np.broadcast_to(BLANK, image.shape))):
        values = []
        for s in range(steps + 1):
            shown = np.array(start, np.float64)
            for p in order[: -(-s * SIDE * SIDE // steps)]:
                shown[divmod(p, SIDE)] = end[divmod(p, SIDE)]
            values.append(probability(shown))
        curves.append(values)
    return curves


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 7, 16])
def test_curves_and_areas_are_those_of_taking_one_pixel_after_the_other(data, steps):
    images, maps, labels, weights = data
    network = jax.tree_util.Partial(linear, weights)
    expected = np.array([plain_curves(*one, weights, steps) for one in zip(images, maps, labels, strict=True)])
    inserted = faithfulness.insertion_curve(network, images, maps, labels, steps=steps, batch_size=3)
    deleted = faithfulness.deletion_curve(network, images, maps, labels, steps=steps, baseline=BLANK, batch_size=3)
    np.testing.assert_allclose(np.stack([inserted, deleted], axis=1), expected, atol=1e-5)
    areas = faithfulness.insertion(network, images, maps, labels, steps=steps, batch_size=3)
    np.testing.assert_allclose(areas, np.trapezoid(expected[:, 0], dx=1 / steps), atol=1e-5)


def test_the_curve_of_equal_pixels_is_a_line_whatever_the_map():
    images, maps = np.ones((2, 8, 8, 3)), np.random.default_rng(0).random((2, 8, 8))
    curve = faithfulness.deletion_curve(mean_of_pixels, images, maps, steps=4, watch="output")
    np.testing.assert_allclose(curve, [[1, 0.75, 0.5, 0.25, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(
        faithfulness.deletion(mean_of_pixels, images, maps, steps=4, watch="output"), 0.5, rtol=1e-6
    )
    inserted = faithfulness.insertion_curve(mean_of_pixels, images, maps, steps=4, watch="output", baseline=0)
    np.testing.assert_allclose(inserted, curve[:, ::-1], atol=1e-6)


def test_the_curve_of_a_map_that_is_the_image_is_a_sum_of_its_highest_pixels():
    images = np.random.default_rng(0).random((3, 8, 8, 1)).astype(np.float32)
    rest = np.cumsum(np.sort(images.reshape(3, 64), axis=1), axis=1)[:, ::-1]  # what is left after the s highest
    expected = np.concatenate([rest, np.zeros((3, 1))], axis=1) / 64
    curve = faithfulness.deletion_curve(mean_of_pixels, images, images[..., 0], steps=64, watch="output")
    np.testing.assert_allclose(curve, expected, atol=1e-6)


def test_a_constant_map_goes_row_by_row():
    images = np.arange(4.0).repeat(4).reshape(1, 4, 4, 1)
    curve = faithfulness.deletion_curve(mean_of_pixels, images, np.ones((1, 4, 4)), steps=4, watch="output")
    np.testing.assert_allclose(curve[0] * 4, [6, 6, 5, 3, 0], atol=1e-6)


def test_a_map_that_follows_the_score_is_better_than_its_opposite(data):
    images, _, labels, weights = data
    own = np.moveaxis(weights[..., labels] - weights.mean(axis=-1, keepdims=True), -1, 0)
    gain = np.einsum("bhwc,bhwc->bhw", images - BLANK, own).astype(np.float32)
    network = jax.tree_util.Partial(linear, weights)
    good, bad = (
        faithfulness.deletion(network, images, sign * gain, labels, baseline=BLANK, steps=16) for sign in (1, -1)
    )
    assert (good < bad).all()


@pytest.mark.parametrize(("baseline", "start"), [("mean", 120), (7, 7), ([1, 2, 6], 3), ("blur", 120)])
def test_the_first_of_insertion_is_the_baseline(baseline, start):
    image = np.full((1, 16, 16, 3), 120.0)
    image[0, :, :, 0], image[0, :, :, 2] = 100, 140
    curve = faithfulness.insertion_curve(
        mean_of_pixels, image, np.ones((1, 16, 16)), steps=2, baseline=baseline, watch="output"
    )
    np.testing.assert_allclose(curve[0, [0, -1]], [start, 120], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be a whole number from 1"),
        (
            {"baseline": "black"},
            "baseline is 'black'; it must be 'blur', 'mean', a number, or a number for each channel",
        ),
        ({"baseline": (1, 2)}, r"baseline has 2 numbers of images of the shape \(2, 8, 8, 3\); it must be .*"),
        ({"baseline": np.nan}, "baseline hold NaN or infinities"),
    ],
)
def test_mistakes_are_one_line(changes, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        faithfulness.deletion(mean_of_pixels, np.ones((2, 8, 8, 3)), np.ones((2, 8, 8)), **changes)
