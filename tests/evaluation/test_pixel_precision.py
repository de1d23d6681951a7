"""PxAP against brute force, known cases and the golden values."""

import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.evaluation.pixel_precision import PixelPrecision, bin_edges
from fcam_jax.types import Annotation


def annotation(mask, ignore=None):
    return Annotation(
        "a.png", 0, mask=np.asarray(mask, bool), ignore=None if ignore is None else np.asarray(ignore, bool)
    )


def random_case(rng, shape=(12, 15)):
    # Scores on bin edges as often as between them, 0 and 1 included.
    scores = np.where(rng.random(shape) < 0.5, rng.integers(0, 11, shape) / 10, rng.random(shape))
    return scores, annotation(rng.random(shape) < 0.3, rng.random(shape) < 0.2)


def test_histograms_are_numpys_without_ignored_background():
    rng = np.random.default_rng(0)
    for step in (0.1, 0.07, 0.001, 1.0):
        scores, truth = random_case(rng)
        counts = PixelPrecision(step).update(scores, truth).counts
        edges = bin_edges(step)
        np.testing.assert_array_equal(counts["foreground"], np.histogram(scores[truth.mask], edges)[0])
        np.testing.assert_array_equal(counts["background"], np.histogram(scores[~truth.mask & ~truth.ignore], edges)[0])


@pytest.mark.parametrize("step", [0.001, 0.004, 0.01, 0.3])
def test_a_score_equal_to_a_threshold_falls_into_the_bin_above_it(step):
    scores = bin_edges(step)[None, :-2]
    counts = PixelPrecision(step).update(scores, annotation(np.ones(scores.shape))).counts
    assert counts["foreground"].tolist() == [1] * scores.size + [0]


def test_precision_recall_and_area_are_those_counted_threshold_by_threshold():
    rng = np.random.default_rng(1)
    cases = [random_case(rng) for _ in range(3)]
    metric = PixelPrecision(0.1)
    for scores, truth in cases:
        metric = metric.update(scores, truth)
    counted = np.concatenate([scores[truth.mask | ~truth.ignore] for scores, truth in cases])
    positive = np.concatenate([truth.mask[truth.mask | ~truth.ignore] for _, truth in cases])
    area, last_recall = 0.0, 0.0
    precision, recall = metric.curve()
    for i, edge in enumerate([2.0, 1.0, *np.arange(0, 1, 0.1)[::-1]]):
        taken = counted >= edge
        hits = (taken & positive).sum()
        expected = hits / taken.sum() if taken.any() else 0.0
        assert precision[i] == pytest.approx(expected) and recall[i] == pytest.approx(hits / positive.sum())
        area += expected * (recall[i] - last_recall)
        last_recall = recall[i]
    assert metric.compute()["PxAP"] == pytest.approx(100 * area, abs=1e-10)


def test_a_map_that_is_the_mask_scores_100_and_a_constant_map_the_share_of_foreground():
    mask = np.zeros((10, 10), bool)
    mask[:3] = True
    assert PixelPrecision().update(mask.astype(float), annotation(mask)).compute() == {"PxAP": 100.0}
    constant = PixelPrecision().update(np.full((10, 10), 0.5), annotation(mask))
    assert constant.compute()["PxAP"] == pytest.approx(30)


def test_ignored_background_is_dropped_but_foreground_never():
    mask, scores = np.zeros((4, 4), bool), np.ones((4, 4))
    mask[0] = True
    assert PixelPrecision().update(scores, annotation(mask, np.ones((4, 4)))).compute() == {"PxAP": 100.0}


def test_the_area_is_that_of_all_pixels_not_the_mean_over_images():
    rng = np.random.default_rng(2)
    (scores_a, truth_a), (scores_b, truth_b) = random_case(rng), random_case(rng)
    together = PixelPrecision().update(
        np.concatenate([scores_a, scores_b]),
        annotation(np.concatenate([truth_a.mask, truth_b.mask]), np.concatenate([truth_a.ignore, truth_b.ignore])),
    )
    a, b = PixelPrecision().update(scores_a, truth_a), PixelPrecision().update(scores_b, truth_b)
    assert a.merge(b).compute() == together.compute()
    assert a.merge(b).counts["images"] == 2


def test_no_image_and_no_foreground_are_errors():
    with pytest.raises(InputError, match="no image"):
        PixelPrecision().compute()
    with pytest.raises(InputError, match="without a foreground pixel"):
        PixelPrecision().update(np.ones((3, 3)), annotation(np.zeros((3, 3)))).compute()


@pytest.mark.parametrize(
    ("mask", "ignore", "reason"),
    [
        (None, None, "mask is missing"),
        (np.ones((2, 3), bool), None, r"mask is bool \(2, 3\), must be bool \(3, 3\)"),
        (np.ones((3, 3), np.uint8), None, "mask is uint8"),
        (np.ones((3, 3), bool), np.ones((1, 1), bool), r"ignore mask is bool \(1, 1\)"),
    ],
)
def test_unusable_masks_are_refused_by_name(mask, ignore, reason):
    with pytest.raises(InputError, match=f"image c/2.jpg: .*{reason}"):
        PixelPrecision().update(np.ones((3, 3)), Annotation("c/2.jpg", 0, mask=mask, ignore=ignore))


@pytest.mark.parametrize(("step", "name"), [(0.001, "p001"), (0.01, "p01")])
def test_histograms_and_curve_are_the_reference_programs(shared, step, name):
    golden = np.load(shared / "golden/evaluation/maskeval.npz")
    np.testing.assert_array_equal(bin_edges(step), golden[f"edges_{name}"])
    total = PixelPrecision(step)
    for score_map, mask, expected in zip(
        golden["maps"], golden["gt_mask"], golden[f"pxap_per_image_{name}"], strict=True
    ):
        one = PixelPrecision(step).update(score_map, annotation(mask == 1, mask == 255))
        assert one.compute()["PxAP"] == pytest.approx(expected, abs=1e-10)
        total = total.merge(one)
    np.testing.assert_array_equal(total.counts["foreground"], golden[f"hist_true_{name}"])
    np.testing.assert_array_equal(total.counts["background"], golden[f"hist_false_{name}"])
    assert total.compute()["PxAP"] == pytest.approx(float(golden[f"pxap_{name}"]), abs=1e-10)
    precision, recall = total.curve()
    np.testing.assert_allclose(recall, golden[f"recall_{name}"], rtol=1e-12)
    np.testing.assert_allclose(precision, np.nan_to_num(golden[f"precision_{name}"]), rtol=1e-12)
