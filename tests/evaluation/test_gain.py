"""What a method gains over another on the same images: a paired difference with the interval that chance allows."""

import numpy as np
import pytest

from fcam_jax.evaluation.evaluator import evaluate
from fcam_jax.evaluation.gain import gain
from fcam_jax.evaluation.settings import EvaluationSettings
from fcam_jax.types import Annotation, Batch, Localization

IMAGES, SIDE = 80, 8


def evaluated(hits, boxes=True, bootstrap=400):
    """Methods that find the object, the left edge, of some images, and the right edge in the others."""
    left = np.repeat(np.arange(SIDE)[None] < 2, SIDE, axis=0)
    truths = [
        Annotation(f"{i}.png", 0, np.array([[0, 0, 1, SIDE - 1]]) if boxes else None, None if boxes else left)
        for i in range(IMAGES)
    ]
    maps = {
        name: Localization(np.where(found[:, None, None], left, left[:, ::-1]).astype(np.float32), None)
        for name, found in hits.items()
    }
    images = np.zeros((IMAGES, SIDE, SIDE, 3), np.uint8)
    batch = Batch(images, np.zeros(IMAGES, np.int32), np.arange(IMAGES), np.ones(IMAGES, np.float32))
    wanted = EvaluationSettings(threshold_step=0.25, bootstrap=bootstrap).wanted
    return evaluate(lambda _: maps, [(batch, truths)], wanted)


def first(count):
    return np.arange(IMAGES) < count


def test_images_that_both_find_say_nothing_of_the_difference():
    found = evaluated({"CAM": first(40), "F-CAM": first(46), "other": first(80)[::-1] & ~first(34)})
    gained = gain(found["CAM"], found["F-CAM"])
    share = 6 / IMAGES  # the only images that differ: a binomial of their own
    half = 196 * np.sqrt(share * (1 - share) / IMAGES)
    assert gained.figure == "MaxBoxAcc" and gained.points == pytest.approx(100 * share)
    assert gained.better and gained.interval_95 == pytest.approx((100 * share - half, 100 * share + half), abs=1.5)
    # The same gain, but of other images than the first method finds: chance is larger than it.
    other = gain(found["CAM"], found["other"])
    assert other.points == pytest.approx(100 * share) and not other.better and other.interval_95[0] < -5


def test_a_loss_and_a_tie_are_no_gain():
    found = evaluated({"CAM": first(40), "F-CAM": first(30)})
    assert gain(found["CAM"], found["F-CAM"]).interval_95[1] < 0
    same = gain(found["CAM"], found["CAM"])
    assert same.interval_95 == (0, 0) and not same.better


def test_pixels_count_where_there_are_no_boxes_and_without_bootstrap_nothing_is_said():
    hits = {"CAM": first(40), "F-CAM": first(70)}
    found = evaluated(hits, boxes=False)
    gained = gain(found["CAM"], found["F-CAM"])
    assert gained.figure == "PxAP" and gained.better
    found = evaluated(hits, bootstrap=0)
    assert gain(found["CAM"], found["F-CAM"]) is None
