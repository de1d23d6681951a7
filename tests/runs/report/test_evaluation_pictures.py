"""Pictures of an evaluation: the right cut of every map, and the files."""

import types

import numpy as np
import PIL.Image
import pytest

from fcam_jax.evaluation.evaluator import Evaluation, Example
from fcam_jax.runs.report import pictures
from fcam_jax.runs.report.record import localized
from fcam_jax.types import Annotation

SIDE = 20
TRUTH = np.zeros((SIDE, SIDE), bool)
TRUTH[5:15, 5:15] = True
BOX = np.array([[5, 5, 14, 14]])


def peak_in_the_object(low):
    """A map of value 1 in half of the object, `low` in the rest of it, 0.2 in a far corner."""
    score_map = np.where(TRUTH, np.float32(low), np.float32(0))
    score_map[5:15, 5:10] = 1
    score_map[:2, :2] = 0.2
    return score_map


def evaluation(score_map, threshold=None, boxes=BOX, mask=TRUTH, ignore=None, count=1):
    annotations = [Annotation(f"test/{i}.jpg", 3, boxes, mask, ignore) for i in range(count)]
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    metrics = {} if threshold is None else {"MaxBoxAcc_threshold": threshold, "MaxBoxAcc": 100.0}
    taus = np.arange(0, 1, 0.1)
    curves = {} if threshold is None else {"MaxBoxAcc": 100 * taus}
    return Evaluation(metrics, [Example(image, annotation, score_map) for annotation in annotations], taus, curves)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """What goes to the figures, from evaluations."""

    def draw(**evaluations):
        seen = types.SimpleNamespace(rows=None, lines=None)
        monkeypatch.setattr(pictures, "save_grid", lambda path, rows: setattr(seen, "rows", rows))
        monkeypatch.setattr(pictures, "save_plot", lambda paths, axes, lines: setattr(seen, "lines", lines))
        pictures.save_pictures(tmp_path, evaluations)
        return seen

    return draw


def found(row):
    return [localized(levels, row.truth, threshold) for levels, threshold in row.panels.values()]


def test_each_method_is_cut_at_its_own_threshold(drawn):
    score_map = peak_in_the_object(0.5)
    (row,) = drawn(low=evaluation(score_map, 0.4), high=evaluation(score_map, 0.6)).rows
    assert (row.truth.image_id, row.class_name) == ("test/0.jpg", "class 3")
    np.testing.assert_array_equal(row.truth.boxes, BOX)
    np.testing.assert_array_equal(row.truth.mask, TRUTH)
    assert list(row.panels) == ["low", "high"]
    low, high = found(row)
    assert (low.threshold, high.threshold) == (0.4, 0.6)
    np.testing.assert_array_equal(low.mask, TRUTH)
    np.testing.assert_array_equal(high.mask, score_map == 1)
    # The predicted corner is one past the last pixel, as the protocol's program has it: 11 x 11 and 6 x 11 pixels.
    assert low.box.tolist() == [5, 5, 15, 15] and low.iou == pytest.approx(100 / 121)
    assert high.box.tolist() == [5, 5, 10, 15] and high.iou == pytest.approx(60 / (100 + 6))


def test_the_foreground_is_strictly_above_the_threshold_of_the_maximum(drawn):
    score_map = peak_in_the_object(0.5) / 2  # levels 127 and 63: floor(0.5 * 127) = 63 is not above itself
    (row,) = drawn(CAM=evaluation(score_map, 0.5)).rows
    np.testing.assert_array_equal(found(row)[0].mask, score_map == 0.5)


def test_of_several_true_boxes_the_best_counts(drawn):
    boxes = np.array([[0, 0, 1, 1], [5, 5, 14, 14]])
    (row,) = drawn(CAM=evaluation(peak_in_the_object(0.5), 0.4, boxes=boxes)).rows
    assert found(row)[0].iou == pytest.approx(100 / 121)


def test_without_boxes_masks_are_compared_outside_of_the_undecided(drawn):
    ignore = np.zeros_like(TRUTH)
    ignore[0], ignore[14, :10] = True, True  # part of row 14 is object, and so counts
    score_map = peak_in_the_object(0.1)
    score_map[0] = 1
    (row,) = drawn(CAM=evaluation(score_map, boxes=None, ignore=ignore)).rows
    (panel,) = found(row)
    assert panel.box is None and panel.threshold == 0.5
    assert panel.iou == pytest.approx(50 / 100)


def test_curves_are_those_of_box_accuracy(drawn):
    seen = drawn(CAM=evaluation(peak_in_the_object(0.5), 0.4))
    (line,) = seen.lines
    assert line.name == "CAM"
    np.testing.assert_allclose(line.y, 100 * line.x)
    assert drawn(CAM=evaluation(peak_in_the_object(0.5), boxes=None)).lines is None


def test_the_files_hold_a_row_for_every_image(tmp_path):
    found = {name: evaluation(peak_in_the_object(0.5), 0.4, count=3) for name in ("CAM", "F-CAM")}
    pictures.save_pictures(tmp_path / "new" / "pictures", found)
    assert sorted(path.name for path in (tmp_path / "new" / "pictures").iterdir()) == [
        "box_accuracy.png",
        "test_grid.png",
    ]
    with PIL.Image.open(tmp_path / "new" / "pictures" / "test_grid.png") as grid:
        assert grid.height > 3 * 160 and grid.width > 5 * 160


def test_at_most_as_many_images_are_drawn_as_were_asked_for(tmp_path):
    found = {"CAM": evaluation(peak_in_the_object(0.5), 0.4, count=5)}
    pictures.save_pictures(tmp_path, found, 2)
    with PIL.Image.open(tmp_path / "test_grid.png") as grid:
        assert 2 * 160 < grid.height < 3 * 160


def test_a_map_of_zeros_can_be_drawn(tmp_path):
    pictures.save_pictures(tmp_path, {"CAM": evaluation(np.zeros((SIDE, SIDE), np.float32), 0.4)})
    assert (tmp_path / "test_grid.png").exists()


def test_nothing_is_written_without_examples(tmp_path):
    pictures.save_pictures(tmp_path / "pictures", {"CAM": evaluation(peak_in_the_object(0.5), 0.4, count=0)})
    assert not (tmp_path / "pictures").exists()


def test_methods_with_different_images_are_a_mistake(tmp_path):
    one, two = (evaluation(peak_in_the_object(0.5), 0.4, count=count) for count in (1, 2))
    with pytest.raises(ValueError, match=r"shorter|longer"):
        pictures.save_pictures(tmp_path, {"CAM": one, "F-CAM": two})
