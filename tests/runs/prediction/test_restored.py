"""Maps at their image's size, and boxes there: against Pillow, the component tree of the evaluation, and by hand."""

import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from fcam_jax.evaluation.boxes import largest_box, quantise
from fcam_jax.runs.prediction.restored import Threshold, bounded, boxes_above, rescale, restore, to_levels


@pytest.mark.parametrize("size", [(30, 45), (128, 20)])
def test_a_map_is_enlarged_as_pillow_does_it(size):
    score_map = np.random.default_rng(0).random((16, 16), np.float32)
    expected = PIL.Image.fromarray(score_map).resize(size[::-1], PIL.Image.Resampling.BILINEAR)
    np.testing.assert_allclose(restore(score_map, size), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 64), (40, 5), (2000, 700)])
def test_a_ramp_stays_a_ramp_at_any_size_and_its_levels_are_the_evaluations(size):
    ramp = np.tile((np.arange(16, dtype=np.float32) + 0.5) / 16, (16, 1))
    restored = restore(ramp, size)
    expected = np.clip((np.arange(size[1]) + 0.5) / size[1], 0.5 / 16, 15.5 / 16)
    np.testing.assert_allclose(restored, np.tile(expected, (size[0], 1)), atol=1e-6)
    np.testing.assert_array_equal(to_levels(restored), quantise(restored))


@pytest.mark.parametrize("kind", ["noise", "smooth", "holes", "plateaus"])
def test_boxes_are_those_of_the_evaluation(kind):
    rng = np.random.default_rng(1)
    for size in ((1, 9), (7, 7), (40, 61)):
        for _ in range(30):
            score_map = rng.random(size)
            if kind != "noise":
                score_map = ndimage.gaussian_filter(score_map, 1.5)
                score_map = (score_map - score_map.min()) / max(np.ptp(score_map), 1e-9)
            if kind == "holes":
                score_map[size[0] // 3 : size[0] // 2] = 0
            if kind == "plateaus":
                score_map = np.round(4 * score_map) / 4
            levels, tau = to_levels(score_map), rng.uniform(0, 0.9)
            boxes = boxes_above(levels, Threshold(tau, "").level(levels))
            np.testing.assert_array_equal(boxes[0], largest_box(score_map, tau))
            # Every region that is in no other's hole has its box.
            outside = ndimage.binary_fill_holes(levels > Threshold(tau, "").level(levels))
            assert len(boxes) == ndimage.label(outside, np.ones((3, 3)))[1]


def test_an_absolute_threshold_does_not_depend_on_the_maximum_and_an_empty_map_has_no_box():
    levels = to_levels(np.array([[0.3, 0.6, 0.5]]))
    assert Threshold(0.5, "", of_maximum=False).level(levels) == 127  # above it: 0.6 alone
    assert Threshold(0.5, "").level(levels) == int(0.5 * 153)
    assert boxes_above(np.zeros((4, 5), np.uint8), 0).shape == (0, 4)


def test_boxes_grow_with_their_frame():
    boxes = np.array([[0, 0, 9, 4], [2, 1, 2, 1]])
    np.testing.assert_array_equal(rescale(boxes, (5, 10), (15, 20)), [[0, 0, 19, 14], [4, 3, 5, 5]])
    np.testing.assert_array_equal(rescale(boxes, (5, 10), (5, 10)), boxes)
    assert bounded((6000, 8000), 1600) == (1200, 1600) and bounded((30, 40), 1600) == (30, 40)
    assert bounded((10000, 2), 100) == (100, 1)
