"""The pointing game on maps whose maximum is known."""

import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.evaluation.pointing_game import PointingGame
from fcam_jax.types import Annotation

SIDE = 60


def map_with_maxima(*points):
    score_map = np.full((SIDE, SIDE + 10), 0.5)
    for x, y in points:
        score_map[y, x] = 0.9
    return score_map


def as_mask(boxes):
    mask = np.zeros((SIDE, SIDE + 10), bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(30, 20)], (100, 100)),
        ([(40, 35)], (100, 100)),  # the last pixel of the box
        ([(41, 35)], (0, 100)),
        ([(52, 44)], (0, 100)),  # 12 and 9 pixels from the corner: 15
        ([(53, 44)], (0, 0)),
        ([(2, 57)], (100, 100)),  # the second box
        ([(30, 20), (0, 59)], (100, 100)),  # of two maxima the first in raster order counts
        ([(69, 0), (30, 20)], (0, 0)),
    ],
)
def test_a_hit_is_a_maximum_on_the_object_or_within_15_pixels_of_it(points, expected):
    boxes = [[20, 15, 40, 35], [1, 56, 3, 58]]
    for truth in (Annotation("a", 0, boxes=np.array(boxes)), Annotation("a", 0, mask=as_mask(boxes))):
        assert PointingGame().update(map_with_maxima(*points), truth).compute() == {
            "PointingGame": expected[0],
            "PointingGame_15px": expected[1],
        }


def test_the_figures_are_shares_of_all_images():
    truth = Annotation("a", 0, boxes=np.array([[20, 15, 40, 35]]))
    metric = PointingGame()
    for point in [(30, 20), (41, 35), (69, 0), (69, 0)]:
        metric = metric.update(map_with_maxima(point), truth)
    assert metric.compute() == {"PointingGame": 25, "PointingGame_15px": 50}
    with pytest.raises(InputError, match="no image"):
        PointingGame().compute()


def test_an_empty_mask_is_never_hit():
    metric = PointingGame().update(np.ones((4, 4)), Annotation("a", 0, mask=np.zeros((4, 4), bool)))
    assert metric.compute() == {"PointingGame": 0, "PointingGame_15px": 0}
