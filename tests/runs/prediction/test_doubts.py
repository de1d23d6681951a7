"""Predictions that are doubtful as a whole: constant maps, boxes of the whole image, in more than half of them."""

import numpy as np
import pytest

from fcam_jax.runs.prediction.doubts import doubt, tell
from fcam_jax.runs.prediction.restored import Predicted, Threshold, restored

SIDE = 20


def found(score_map):
    batch = Predicted(score_map[None].astype(np.float32), np.zeros((1, 2), np.float32), np.zeros(1, np.int32))
    return doubt("a.jpg", restored(batch, 0, (30, 50), Threshold(0.5, "given")), (30, 50))


def object_of(height, background=0.1):
    """A map of an object of the image's width and some height."""
    rows = np.arange(SIDE)[:, None] < height
    return np.where(rows, 0.9, background) * np.ones((SIDE, SIDE))


@pytest.mark.parametrize(
    ("score_map", "constant", "whole"),
    [
        (object_of(10), False, False),
        (object_of(18), False, False),
        (object_of(20), True, True),
        (object_of(10, background=0.7), False, True),  # flooded, with a place in it
        (object_of(10, background=0.85), True, True),
        (0 * object_of(20), True, False),  # collapsed: no box at all
        (0.4 * object_of(10), False, False),
    ],
)
def test_a_map_without_a_place_and_a_box_of_the_whole_image(score_map, constant, whole):
    assert found(score_map)[1:] == (constant, whole)


def test_more_than_half_of_the_images_are_told_in_one_line(caplog):
    sound, flooded = found(object_of(10)), found(object_of(20))
    tell([])
    tell([sound, flooded])
    assert not caplog.messages
    tell([sound, flooded, flooded._replace(image="b.jpg", whole=False)])
    assert caplog.messages == ["2 of 3 maps are constant (max - min below 0.1), first a.jpg: see docs/poor_results.md"]
