"""The box of a traced program is the evaluation's."""

import cv2
import jax
import numpy as np
import pytest

from fcam_jax.evaluation.boxes import largest_box
from fcam_jax.evaluation.traced_boxes import traced_boxes
from fcam_jax.runs.prediction.restored import Threshold, boxes_above, to_levels


def maps():
    """Noise of several grains: many regions of equal area, regions in holes, and single pixels; and no region."""
    rng = np.random.default_rng(0)
    found = [np.zeros((13, 17), np.float32)]
    for grain in np.repeat([0.2, 0.7, 1.4], 20):
        noise = cv2.GaussianBlur(rng.random((13, 17)).astype(np.float32), (0, 0), grain)
        found.append((noise - noise.min()) / (noise.max() - noise.min()))
    ring = np.zeros((13, 17), np.float32)
    ring[1:8, 1:8] = 1  # whose area counts what is within it
    ring[2:7, 2:7] = 0
    ring[4, 4] = 1
    ring[9:13, 9:15] = 1
    return np.stack([*found, ring])


@pytest.mark.slow
@pytest.mark.parametrize("of_maximum", [True, False])
def test_it_is_the_evaluations(of_maximum):
    given = maps() * np.float32(1 if of_maximum else 0.7)
    for tau in (0.29, 0.6, 0.85):
        found = jax.jit(traced_boxes, static_argnums=(1, 2))(given, tau, of_maximum)
        for score_map, box in zip(given, np.asarray(found), strict=True):
            levels = to_levels(score_map)
            boxes = boxes_above(levels, Threshold(tau, "given", of_maximum).level(levels))
            np.testing.assert_array_equal(box, boxes[0] if len(boxes) else [0, 0, 0, 0])
            if of_maximum:
                np.testing.assert_array_equal(box, largest_box(score_map, tau))
