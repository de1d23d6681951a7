"""The centre baseline and F-CAM's own decision."""

import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.evaluation.boxes import best_iou, largest_box
from fcam_jax.evaluation.metric import thresholds
from fcam_jax.methods.baselines import Center, Decision, center_map
from fcam_jax.methods.contract import Localizer
from fcam_jax.types import Batch, Localization


class Given:
    """Stands for a model and for F-CAM's method: gives the maps and scores that it was made with."""

    def __init__(self, maps, logits):
        self.maps, self.logits = maps, logits

    def __call__(self, images, *, train):
        assert not train
        return (), self.logits

    def localize(self, model, batch):
        return Localization(self.maps, self.logits)


def batch(*shape):
    count = shape[0]
    return Batch(jnp.zeros((*shape, 3), jnp.uint8), jnp.zeros(count, jnp.int32), jnp.arange(count), jnp.ones(count))


@pytest.mark.slow
@pytest.mark.parametrize("side", [31, 64])
def test_boxes_of_the_centre_are_centred_squares_of_every_size(side):
    found = np.asarray(center_map(side, side), np.float64)
    assert found.min() > 0 and 0.99 < found.max() <= 1
    np.testing.assert_array_equal(found, found[::-1, ::-1])
    np.testing.assert_array_equal(found, found.T)
    boxes = np.array([largest_box(found, tau) for tau in thresholds(0.01)])
    sides = boxes[:, 2] - boxes[:, 0]
    assert len(set(sides)) > side / 4
    assert sides.max() == side - 1
    np.testing.assert_array_equal(sides, boxes[:, 3] - boxes[:, 1])


def test_the_centre_finds_a_centred_object_and_no_object_in_a_corner():
    found = np.asarray(center_map(64, 64), np.float64)
    centred, corner = np.array([[16, 16, 47, 47]]), np.array([[0, 0, 12, 12]])
    assert best_iou(found, centred, thresholds(0.01)).largest.max() > 0.9
    assert best_iou(found, corner, thresholds(0.01)).largest.max() < 0.1


@pytest.mark.slow
def test_every_image_gets_the_same_centre_and_the_classifier_s_scores():
    logits = jnp.arange(6.0).reshape(2, 3)
    found = Center().localize(Given(None, logits), batch(2, 8, 12))
    assert found.maps.shape == (2, 8, 12)
    np.testing.assert_array_equal(found.maps[0], found.maps[1])
    np.testing.assert_array_equal(found.logits, logits)


def test_a_decision_is_where_foreground_is_likelier_and_cuts_alike_at_every_threshold():
    maps = jnp.asarray(np.random.default_rng(0).random((2, 9, 9)), jnp.float32)
    found = Decision(Given(maps, jnp.zeros((2, 3)))).localize(None, batch(2, 9, 9))
    np.testing.assert_array_equal(found.maps, np.asarray(maps) > 0.5)
    truth = np.array([[2, 2, 6, 6]])
    iou = best_iou(np.asarray(found.maps[0], np.float64), truth, thresholds(0.05)).largest
    assert len(set(iou)) == 1


def test_both_are_localizers():
    assert isinstance(Center(), Localizer) and isinstance(Decision(Center()), Localizer)
