"""Boxes at every threshold against OpenCV, against drawings whose boxes are known, and against the golden values."""

import concurrent.futures

import numpy as np
import pytest

from fcam_jax.evaluation.boxes import best_iou, box_iou, largest_box, level_thresholds, quantise
from fcam_jax.evaluation.component_tree import best_alive, contours


def boxes_at(found, threshold):
    """All contour boxes at one threshold, sorted; the single zero box where nothing is foreground."""
    boxes = found.boxes[(found.first <= threshold) & (threshold < found.stop)]
    return sorted(boxes.tolist()) if len(boxes) else [[0, 0, 0, 0]]


@pytest.mark.slow
def test_all_boxes_and_the_largest_are_opencvs_at_every_threshold(random_levels, opencv_boxes):
    for levels in random_levels:
        found = contours(levels)
        for threshold in range(max(1, levels.max())):
            boxes, largest = opencv_boxes(levels, threshold)
            assert boxes_at(found, threshold) == sorted(boxes.tolist())
            assert found.largest[threshold].tolist() == largest.tolist()


@pytest.mark.parametrize("noise", [0, 8, 255], ids=["smooth", "noisy", "noise"])
def test_boxes_of_a_map_with_all_levels_are_opencvs(opencv_boxes, noise):
    y, x = np.mgrid[:150, :210]
    waves = np.sin(x / 17 + y / 29) + np.cos(x / 31 - y / 23) + np.hypot(x - 100, y - 70) / 80
    waves += noise / 100 * np.random.default_rng(0).standard_normal(waves.shape)
    levels = (255.999 * (waves - waves.min()) / np.ptp(waves)).astype(np.uint8)
    found = contours(levels)
    for threshold in [*range(0, 255, 23), 254]:
        boxes, largest = opencv_boxes(levels, threshold)
        assert boxes_at(found, threshold) == sorted(boxes.tolist())
        assert found.largest[threshold].tolist() == largest.tolist()


def test_the_best_alive_at_a_threshold_is_the_largest_of_those_whose_range_holds_it():
    rng = np.random.default_rng(0)
    for n in (0, 1, 5, 300):
        first = rng.integers(0, 256, n)
        stop = np.minimum(first + rng.integers(1, 257, n), 256)
        values = rng.permutation(n).astype(np.float64)
        alive = (first <= np.arange(256)[:, None]) & (np.arange(256)[:, None] < stop)
        expected = np.where(alive, values, -1).argmax(axis=1) if n else np.zeros(256)
        np.testing.assert_array_equal(best_alive(values, first, stop), np.where(alive.any(axis=1), expected, -1))


def test_nested_rings_give_outer_and_hole_boxes():
    levels = np.zeros((20, 20), np.uint8)
    for inset, value in [(1, 9), (3, 0), (5, 9), (7, 0), (9, 9)]:
        levels[inset : 20 - inset, inset : 20 - inset] = value
    # Two rings two pixels wide with a hole each, and a square in the middle.
    assert boxes_at(contours(levels), 0) == sorted(
        [[1, 1, 19, 19], [2, 2, 18, 18], [5, 5, 15, 15], [6, 6, 14, 14], [9, 9, 11, 11]]
    )
    assert contours(levels).largest[0].tolist() == [1, 1, 19, 19]
    assert boxes_at(contours(levels), 9) == [[0, 0, 0, 0]]


def test_a_hole_lives_only_between_its_floor_and_its_rim():
    levels = np.full((7, 7), 5, np.uint8)
    levels[2:5, 2:5] = 3
    found = contours(levels)
    assert [[1, 1, 6, 6] in boxes_at(found, threshold) for threshold in range(5)] == [False, False, False, True, True]


def test_a_bay_open_to_the_edge_is_no_hole():
    levels = np.ones((5, 5), np.uint8)
    levels[0:3, 2] = 0
    assert boxes_at(contours(levels), 0) == [[0, 0, 4, 4]]


def test_a_hollow_shape_counts_with_its_hole_filled():
    levels = np.zeros((12, 20), np.uint8)
    levels[1:10, 1:10] = 1
    levels[2:9, 2:9] = 0
    levels[1:8, 12:19] = 1
    assert contours(levels).largest[0].tolist() == [1, 1, 10, 10]


def test_of_equal_areas_the_component_that_starts_last_wins():
    levels = np.zeros((9, 9), np.uint8)
    levels[1:3, 1:3] = levels[1:3, 6:8] = levels[5:7, 3:5] = 1
    assert contours(levels).largest[0].tolist() == [3, 5, 5, 7]


def test_quantisation_truncates_in_float64():
    assert quantise(np.array([[0, 1 / 255, np.nextafter(1 / 255, 0), 0.5, 1]])).tolist() == [[0, 1, 0, 127, 255]]
    assert level_thresholds(np.array([0, 0.5, 0.999]), np.array([[7, 255]], np.uint8)).tolist() == [0, 127, 254]


def test_iou_counts_pixels_on_both_sides():
    a = np.array([[0, 0, 9, 9]])
    b = np.array([[0, 0, 9, 9], [5, 0, 14, 9], [10, 0, 19, 9], [0, 0, 0, 0]])
    assert box_iou(a, b)[0].tolist() == pytest.approx([1, 1 / 3, 0, 1 / 100], rel=1e-15)
    degenerate = np.array([[5, 5, 4, 4]])
    assert box_iou(degenerate, degenerate).tolist() == [[0.0]]


def test_best_iou_is_the_maximum_over_opencvs_boxes(random_levels, opencv_boxes):
    rng = np.random.default_rng(1)
    taus = np.arange(0, 1, 0.04)
    for levels in random_levels[4:12]:
        corners = np.sort(rng.integers(0, 32, (3, 2, 2)), axis=1)
        truth = corners.reshape(3, 4)
        iou = best_iou(levels / 255, truth, taus)
        for i, tau in enumerate(taus):
            boxes, largest = opencv_boxes(levels, int(tau * levels.max()))
            assert iou.any_contour[i] == box_iou(boxes, truth).max()
            assert iou.largest[i] == box_iou(largest[None], truth).max()


def test_an_empty_map_predicts_the_zero_box():
    iou = best_iou(np.zeros((8, 8)), np.array([[0, 0, 1, 1]]), np.array([0, 0.5]))
    assert iou.largest.tolist() == iou.any_contour.tolist() == [0.25, 0.25]


def test_largest_box_is_taken_relative_to_the_maximum():
    score_map = np.zeros((10, 10))
    score_map[2:8, 2:8] = 0.2
    score_map[4:6, 4:6] = 0.4
    assert largest_box(score_map, 0.4).tolist() == [2, 2, 8, 8]
    assert largest_box(score_map, 0.6).tolist() == [4, 4, 6, 6]


def test_threads_give_the_same_as_one_after_the_other():
    rng = np.random.default_rng(0)
    maps = rng.random((16, 48, 40))
    truth, taus = np.array([[5, 5, 30, 30]]), np.arange(0, 1, 0.01)
    expected = [best_iou(score_map, truth, taus) for score_map in maps]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda score_map: best_iou(score_map, truth, taus), maps))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a.any_contour, b.any_contour)
        np.testing.assert_array_equal(a.largest, b.largest)


def test_iou_is_the_reference_programs(shared):
    golden = np.load(shared / "golden/evaluation/iou_resize.npz")
    np.testing.assert_array_equal(box_iou(golden["box_a"], golden["box_b"]), golden["iou"])


@pytest.mark.slow
def test_boxes_of_32x32_maps_are_the_reference_programs(shared):
    golden = np.load(shared / "golden/evaluation/boxes32.npz")
    ends = np.cumsum(golden["multi_count"]).reshape(golden["multi_count"].shape)
    for i, score_map in enumerate(golden["maps"]):
        levels = quantise(score_map)
        found = contours(levels)
        for j, threshold in enumerate(level_thresholds(golden["taus"], levels)):
            boxes = golden["multi"][ends[i, j] - golden["multi_count"][i, j] : ends[i, j]]
            assert boxes_at(found, threshold) == sorted(boxes.tolist())
            assert largest_box(score_map, golden["taus"][j]).tolist() == golden["single"][i, j].tolist()


def test_edge_cases_are_the_reference_programs(shared):
    golden = np.load(shared / "golden/evaluation/edge_boxes.npz")
    for name in golden["names"]:
        score_map, counts = golden[f"{name}__map"], golden[f"{name}__multi_count"]
        levels = quantise(score_map)
        found = contours(levels)
        expected = np.split(golden[f"{name}__multi"], np.cumsum(counts)[:-1])
        for j, tau in enumerate(golden["taus"]):
            threshold = level_thresholds(np.array([tau]), levels)[0]
            assert boxes_at(found, threshold) == sorted(expected[j].tolist()), (name, tau)
            assert largest_box(score_map, tau).tolist() == golden[f"{name}__single"][j].tolist(), (name, tau)
