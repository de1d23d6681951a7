"""Parts of a split: by the object's share of the image, at the thresholds of the whole."""

import numpy as np
import pytest

from fcam_jax.evaluation.findings import SIZES, Findings, Wanted, measured
from fcam_jax.evaluation.metric import Scored
from fcam_jax.types import Annotation

SHAPE = (10, 10)
WANTED = Wanted(step=0.1, parts=True)


@pytest.mark.parametrize(
    ("boxes", "size"),
    [
        ([[0, 0, 2, 2]], "below 10 %"),
        ([[0, 0, 4, 1]], "10 to 30 %"),
        ([[0, 0, 4, 4], [0, 0, 4, 4], [1, 1, 3, 3]], "10 to 30 %"),
        ([[0, 0, 4, 4], [5, 5, 10, 10]], "30 to 60 %"),
        ([[0, 0, 9, 5]], "60 % and more"),
        ([[0, 0, 10, 10]], "60 % and more"),
    ],
)
def test_the_size_is_the_share_of_the_image_that_boxes_cover_together(boxes, size):
    annotation = Annotation("a", 0, boxes=np.array(boxes))
    assert SIZES[measured(Scored(np.zeros(SHAPE), annotation), WANTED).size] == size
    mask = np.zeros(SHAPE, bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    assert SIZES[measured(Scored(np.zeros(SHAPE), Annotation("a", 0, mask=mask)), WANTED).size] == size


def findings(*images):
    """What is known of images, each a map with its annotation."""
    known = Findings(WANTED)
    for position, (score_map, annotation) in enumerate(images):
        known.add(measured(Scored(score_map, annotation, 0, position), WANTED))
    return known


def test_parts_are_measured_at_the_thresholds_of_the_whole():
    score_map = np.zeros(SHAPE)
    score_map[:9, :9] = 0.5
    score_map[:3, :3] = 1
    truths = [Annotation("a", part, boxes=np.array([[0, 0, side, side]])) for part, side in ((7, 9), (2, 3), (2, 3))]
    known = findings(*((score_map, truth) for truth in truths))
    figures = known.evaluation().by_class
    assert list(figures) == [2, 7]
    assert (figures[2]["images"], figures[7]["images"]) == (2, 1)
    # Above .5 the narrow box is found, which is the majority; the wide one would have been found below.
    assert (figures[2]["BoxAcc_at_best"], figures[7]["BoxAcc_at_best"]) == (100, 0)
    assert findings((score_map, truths[0])).evaluation().metrics["MaxBoxAcc"] == 100


def test_a_part_without_a_foreground_pixel_has_no_pixel_precision():
    mask = np.zeros(SHAPE, bool)
    truths = [Annotation("a", 0, mask=mask), Annotation("b", 1, mask=~mask)]
    known = Findings(WANTED)
    for position, truth in enumerate(truths):
        known.add(measured(Scored(np.ones(SHAPE), truth, position=position), WANTED))
    assert known.evaluation().by_class == {0: {"images": 1}, 1: {"images": 1, "PxAP": 100.0}}
