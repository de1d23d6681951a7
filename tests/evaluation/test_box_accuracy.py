"""Box metrics against closed forms and the golden values."""

import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.evaluation.box_accuracy import BoxAccuracy
from fcam_jax.evaluation.class_accuracy import ClassAccuracy, class_ranks
from fcam_jax.types import Annotation


def annotation(boxes, image_id="a.jpg"):
    return Annotation(image_id, 0, boxes=np.array(boxes, np.int64).reshape(-1, 4))


def rectangle(x0, y0, x1, y1, side=40, value=1.0):
    """A map whose contour box is the given one (for x1, y1 inside the map)."""
    score_map = np.zeros((side, side))
    score_map[y0:y1, x0:x1] = value
    return score_map


def test_a_rectangle_is_found_at_every_threshold():
    metric = BoxAccuracy(0.01).update(rectangle(5, 6, 20, 30), annotation([5, 6, 20, 30]), 0)
    expected = dict.fromkeys(metric.compute(), 100.0) | {"MaxBoxAcc_threshold": 0.0}
    assert metric.compute() == expected
    assert set(expected) == {
        *("MaxBoxAcc", "MaxBoxAcc_threshold", "MaxBoxAccV2", "BoxAccV2_30", "BoxAccV2_50", "BoxAccV2_70"),
        *("top1_loc", "top5_loc"),
    }
    classes = ClassAccuracy(0.01).update(rectangle(5, 6, 20, 30), annotation([5, 6, 20, 30]), 0)
    assert classes.compute() == {"top1_cls": 100.0, "top5_cls": 100.0}


def test_no_threshold_is_best_where_no_box_hits():
    result = BoxAccuracy(0.01).update(rectangle(0, 0, 3, 3), annotation([20, 20, 39, 39])).compute()
    assert result["MaxBoxAcc"] == 0 and "MaxBoxAcc_threshold" not in result


def test_an_iou_of_exactly_sigma_is_correct():
    # 70 of 100 pixels: the box [0, 0, 6, 9] has x1, y1 inclusive.
    metric = BoxAccuracy(0.1).update(rectangle(0, 0, 6, 9), annotation([0, 0, 9, 9]))
    assert metric.compute()["BoxAccV2_70"] == 100
    metric = BoxAccuracy(0.1).update(rectangle(0, 0, 6, 8), annotation([0, 0, 9, 9]))
    assert metric.compute()["BoxAccV2_70"] == 0


def test_each_sigma_has_its_own_threshold():
    # A wide faint box of IoU .64 with the first truth, in it a narrow bright one that fits the second exactly.
    score_map = rectangle(0, 0, 19, 19, value=0.5) + rectangle(0, 0, 9, 9, value=0.5)
    wide, narrow = annotation([0, 0, 24, 24]), annotation([0, 0, 9, 9])
    metric = BoxAccuracy(0.01).update(score_map, wide).update(score_map, narrow).update(score_map, narrow)
    result, curves = metric.compute(), metric.curves()
    assert curves["BoxAccV2_50"][0] == pytest.approx(100 / 3)
    assert curves["BoxAccV2_50"][-1] == result["BoxAccV2_70"] == pytest.approx(200 / 3)
    assert result["MaxBoxAcc_threshold"] == 0.5
    assert result["MaxBoxAccV2"] == pytest.approx((result["BoxAccV2_30"] + 400 / 3) / 3)


def test_all_contours_find_what_the_largest_misses():
    score_map = rectangle(0, 0, 30, 30) + rectangle(32, 32, 38, 38)
    result = BoxAccuracy(0.1).update(score_map, annotation([32, 32, 38, 38])).compute()
    assert (result["MaxBoxAcc"], result["MaxBoxAccV2"]) == (0, 100)


def test_any_of_several_truth_boxes_will_do():
    truth = annotation([[0, 0, 3, 3], [5, 6, 20, 30]])
    assert BoxAccuracy(0.1).update(rectangle(5, 6, 20, 30), truth).compute()["MaxBoxAcc"] == 100


def test_top_k_needs_the_class_among_the_first_k():
    metrics = BoxAccuracy(0.1), ClassAccuracy(0.1)
    for rank in (0, 1, 4, 5):
        metrics = [one.update(rectangle(5, 6, 20, 30), annotation([5, 6, 20, 30]), rank) for one in metrics]
    metrics = [one.update(rectangle(5, 6, 20, 30), annotation([25, 6, 36, 30]), 0) for one in metrics]
    result = metrics[0].compute() | metrics[1].compute()
    assert (result["MaxBoxAcc"], result["top1_loc"], result["top5_loc"]) == (80, 20, 60)
    assert (result["top1_cls"], result["top5_cls"]) == (40, 80)


def test_without_predictions_there_is_no_top_k():
    for kind in (BoxAccuracy, ClassAccuracy):
        result = kind(0.1).update(rectangle(5, 6, 20, 30), annotation([5, 6, 20, 30])).compute()
        assert not [name for name in result if name.startswith("top")]


def test_centred_gaussian_predicts_centred_squares():
    # A radial map's box at any threshold is the square around the disc, so accuracy follows from the radii alone.
    side, centre, step = 65, 32, 0.01
    y, x = np.mgrid[:side, :side]
    score_map = np.exp(-((y - centre) ** 2 + (x - centre) ** 2) / (2 * 20.0**2))
    rng = np.random.default_rng(0)
    truths = [np.sort(rng.integers(0, side, (2, 2)), axis=0).ravel() for _ in range(40)]
    metric = BoxAccuracy(step)
    for truth in truths:
        metric = metric.update(score_map, annotation(truth))

    profile = (score_map[centre] * 255).astype(int)
    for i, tau in enumerate(np.arange(0, 1, step)):
        radius = np.flatnonzero(profile > int(tau * 255)).max() - centre
        low, high = centre - radius, min(centre + radius + 1, side - 1)
        iou = []
        for x0, y0, x1, y1 in truths:
            overlap = max(0, min(high, x1) - max(low, x0) + 1) * max(0, min(high, y1) - max(low, y0) + 1)
            iou.append(overlap / ((high - low + 1) ** 2 + (x1 - x0 + 1) * (y1 - y0 + 1) - overlap))
        assert metric.curves()["BoxAccV2_30"][i] == pytest.approx(100 * np.mean(np.array(iou) >= 0.3))


def test_merging_two_halves_gives_the_whole():
    rng = np.random.default_rng(0)
    maps = rng.random((6, 20, 24))
    truths = [annotation(np.sort(rng.integers(0, 20, (2, 2)), axis=0).ravel()) for _ in maps]
    parts = [BoxAccuracy(0.01), BoxAccuracy(0.01)]
    whole = BoxAccuracy(0.01)
    for i, (score_map, truth) in enumerate(zip(maps, truths, strict=True)):
        whole = whole.update(score_map, truth, i)
        parts[i // 4] = parts[i // 4].update(score_map, truth, i)
    merged = parts[0].merge(parts[1])
    assert merged.counts.keys() == whole.counts.keys()
    for name, counts in whole.counts.items():
        np.testing.assert_array_equal(merged.counts[name], counts)
    assert whole.counts["images"] == 6


def test_metrics_of_different_thresholds_do_not_merge():
    with pytest.raises(InputError, match=r"0\.1 and 0\.01"):
        BoxAccuracy(0.1).merge(BoxAccuracy(0.01))


def test_an_empty_metric_is_an_error_not_a_division_by_zero():
    with pytest.raises(InputError, match="no image"):
        BoxAccuracy().compute()


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [(None, "no ground truth box"), ([], "no ground truth box"), ([[0, 0, 3, 3], [5, 2, 4, 9]], r"\[5, 2, 4, 9\]")],
)
def test_unusable_boxes_are_refused_by_name(boxes, reason):
    truth = Annotation("b/1.jpg", 0) if boxes is None else annotation(boxes, "b/1.jpg")
    with pytest.raises(InputError, match=f"image b/1.jpg: .*{reason}"):
        BoxAccuracy().update(np.ones((4, 4)), truth)


def test_an_unusable_map_is_refused_by_name():
    with pytest.raises(InputError, match=r"image b/1.jpg: score map holds NaN"):
        BoxAccuracy().update(np.full((4, 4), np.nan), annotation([0, 0, 1, 1], "b/1.jpg"))


def test_rank_is_the_position_in_a_stable_descending_sort():
    rng = np.random.default_rng(0)
    logits = rng.integers(0, 4, (50, 9)).astype(np.float32)
    labels = rng.integers(0, 9, 50)
    order = np.argsort(-logits, axis=1, kind="stable")
    expected = [order[i].tolist().index(labels[i]) for i in range(50)]
    assert class_ranks(logits, labels, [""] * 50).tolist() == expected


def test_rank_of_an_unknown_class_or_a_nan_score_is_refused_by_name():
    logits = np.zeros((2, 3))
    with pytest.raises(InputError, match="image y: label 3"):
        class_ranks(logits, np.array([0, 3]), ["x", "y"])
    logits[1, 2] = np.nan
    with pytest.raises(InputError, match=r"image y: .*NaN"):
        class_ranks(logits, np.array([0, 1]), ["x", "y"])


@pytest.mark.parametrize(("step", "name"), [(0.001, "p001"), (0.004, "p004"), (0.01, "p01")])
def test_counts_are_the_reference_programs(shared, step, name):
    golden = np.load(shared / "golden/evaluation/boxeval224.npz")
    truths = np.split(golden["resized_boxes"], np.cumsum(golden["box_count"])[:-1])
    metric = BoxAccuracy(step)
    for i, (score_map, truth) in enumerate(zip(golden["maps"], truths, strict=True)):
        hit = np.flatnonzero(golden["preds_ordered"][i] == golden["targets"][i])
        metric = metric.update(score_map, annotation(truth), int(hit[0]) if len(hit) else 10)
    for contour, kind in enumerate(("single", "multi")):
        for demand, counted in enumerate(("numcorrect", "top1", "top5")):
            expected = golden[f"{counted}_{name}_{kind}"]
            np.testing.assert_array_equal(metric.counts["localized"][contour, :, demand], expected)
    result = metric.compute()
    assert result["MaxBoxAcc"] == pytest.approx(golden[f"max_{name}_single"][1], abs=1e-12)
    assert result["MaxBoxAcc_threshold"] == golden[f"besttau_{name}_single"][1]
    assert result["MaxBoxAccV2"] == pytest.approx(golden[f"max_{name}_multi"].mean(), abs=1e-12)
    assert result["top1_loc"] == pytest.approx(golden[f"maxtop1_{name}_single"][1], abs=1e-12)
    assert result["top5_loc"] == pytest.approx(golden[f"maxtop5_{name}_single"][1], abs=1e-12)
