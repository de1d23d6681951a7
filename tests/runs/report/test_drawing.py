"""Drawing on arrays: the right pixels in the right colours."""

import numpy as np
import pytest

from fcam_jax.runs.report.drawing import (
    CELL,
    FALSE_COLOUR,
    PREDICTED_COLOUR,
    TRUE_COLOUR,
    draw_box,
    draw_outline,
    enlarge,
    overlay_map,
    overlay_mask,
)
from fcam_jax.types import Annotation

GRAY = np.full((120, 160, 3), 128, np.uint8)


def where(image, colour):
    return (image == colour).all(-1)


@pytest.mark.parametrize("shape", [(64, 64), (30, 64), (500, 375), (1, 900), (160, 160)])
def test_enlarge_gives_the_longer_side_and_keeps_aspect(shape):
    image = enlarge(np.full((*shape, 3), 77, np.uint8))
    assert max(image.shape[:2]) == CELL
    assert image.shape[0] / image.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.02, abs=0.01)
    assert (image == 77).all()


def test_box_frame_covers_the_outermost_pixels_of_the_box():
    # 4 pixels of the drawing for each of the original.
    drawn = draw_box(GRAY, np.array([5, 10, 19, 24]), (30, 40), TRUE_COLOUR, thickness=2)
    frame = np.zeros((120, 160), bool)
    frame[40:100, 20:80] = True
    frame[42:98, 22:78] = False
    np.testing.assert_array_equal(where(drawn, TRUE_COLOUR), frame)
    assert (drawn[~frame] == 128).all()
    assert (GRAY == 128).all()


def test_box_beyond_the_image_is_drawn_on_its_border():
    drawn = draw_box(GRAY, np.array([-3, 0, 40, 30]), (30, 40), PREDICTED_COLOUR, thickness=1)
    frame = np.ones((120, 160), bool)
    frame[1:-1, 1:-1] = False
    np.testing.assert_array_equal(where(drawn, PREDICTED_COLOUR), frame)


def test_box_of_one_pixel_is_visible():
    drawn = draw_box(GRAY, np.array([0, 0, 0, 0]), (120, 160), PREDICTED_COLOUR)
    assert where(drawn, PREDICTED_COLOUR).sum() == 1


def test_mask_tints_its_pixels_red_and_leaves_the_others():
    mask = np.zeros((12, 16), bool)
    mask[3:6, 4:10] = True
    drawn = overlay_mask(GRAY, mask)
    inside = np.kron(mask, np.ones((10, 10), bool))
    assert (drawn[~inside] == 128).all()
    np.testing.assert_allclose(drawn[inside], [(np.array(PREDICTED_COLOUR) + 128) / 2] * inside.sum(), atol=1)


def test_right_missed_and_wrong_pixels_have_their_colours_and_undecided_ones_none():
    mask, truth, ignore = (np.zeros((4, 4), bool) for _ in range(3))
    mask[:, :2], truth[:2], ignore[3] = True, True, True
    drawn = overlay_mask(np.full((4, 4, 3), 128, np.uint8), mask, Annotation("a", 0, None, truth, ignore))
    right, missed, wrong = (((np.array(c) + 128) / 2).round() for c in (PREDICTED_COLOUR, TRUE_COLOUR, FALSE_COLOUR))
    plain = np.full(3, 128)
    expected = [[right, right, missed, missed]] * 2 + [[wrong, wrong, plain, plain], [plain] * 4]
    np.testing.assert_allclose(drawn, expected, atol=1)


def test_outline_lies_on_the_rim_of_the_mask():
    mask = np.zeros((120, 160), bool)
    mask[30:60, 40:100] = True
    rim = mask.copy()
    rim[31:59, 41:99] = False
    np.testing.assert_array_equal(where(draw_outline(GRAY, mask, TRUE_COLOUR), TRUE_COLOUR), rim)


def test_map_goes_from_blue_to_red():
    drawn = overlay_map(GRAY, np.repeat([[0.0, 1.0]], 2, 0)).astype(int)
    low, high = drawn[0, 0], drawn[0, -1]
    assert low[2] > low[0] and high[0] > high[2]


def test_values_that_are_no_scores_are_drawn_as_the_nearest_score():
    odd = overlay_map(GRAY, np.array([[np.nan, -1.0], [np.inf, 2.0]]))
    np.testing.assert_array_equal(odd, overlay_map(GRAY, np.array([[0.0, 0.0], [1.0, 1.0]])))
