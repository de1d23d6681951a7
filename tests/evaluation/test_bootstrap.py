"""Poisson bootstrap: exact weighted counts, merging, and agreement with the ordinary bootstrap and the binomial."""

import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.evaluation.bootstrap import Bootstrap, interval
from fcam_jax.evaluation.box_accuracy import SIGMAS, BoxAccuracy
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.types import Annotation

IMAGES, STEP = 300, 0.1


def box_metrics(rng, count=IMAGES):
    """Metrics of images that are found in a window of thresholds, by no map at all."""
    metrics = []
    for low, width in zip(rng.uniform(0, 0.8, count), rng.uniform(0, 0.6, count), strict=True):
        taus = np.arange(0, 1, STEP)
        found = ((taus >= low) & (taus < low + width)).astype(np.int64)
        counts = {
            "images": np.ones((), np.int64),
            "ranked": np.zeros((), np.int64),
            "localized": np.broadcast_to(found, (2, len(SIGMAS), 3, len(taus))),
        }
        metrics.append(BoxAccuracy(STEP, counts))
    return metrics


def filled(metrics, positions, replicates=1500):
    bootstrap = Bootstrap(replicates)
    for position in positions:
        bootstrap.add(position, [metrics[position]])
    return bootstrap


def figures(totals):
    boxes = totals[BoxAccuracy]
    return {"MaxBoxAcc": boxes.compute()["MaxBoxAcc"]} | boxes.at(dict.fromkeys(boxes.best(), 5), "0.5")


@pytest.mark.parametrize("large", [False, True])
def test_a_replicate_is_the_metric_of_images_repeated_by_their_weight(large):
    rng = np.random.default_rng(0)
    metrics = []
    for _ in range(5):
        metric, mask = PixelPrecision(STEP), rng.random((4, 4)) < 0.4
        metric = metric.update(rng.random((4, 4)), Annotation("a", 0, mask=mask))
        # Beyond 2^24, where float32 would round.
        counts = {name: np.asarray(count * (2**25 + 1) ** large) for name, count in metric.counts.items()}
        metrics.append(PixelPrecision(STEP, counts))
    bootstrap = Bootstrap(20, seed=3)
    for position, metric in enumerate(metrics):
        bootstrap.add(position, [metric])
    for r, totals in enumerate(bootstrap.replicates()):
        expected = PixelPrecision(STEP)
        for position, metric in enumerate(metrics):
            for _ in range(np.random.default_rng((3, position)).poisson(1.0, 20)[r]):
                expected = expected.merge(metric)
        for name, counts in expected.counts.items():
            np.testing.assert_array_equal(totals[PixelPrecision].counts[name], counts)


def test_weights_are_poisson_of_mean_one():
    one = BoxAccuracy(STEP, {"images": np.ones((), np.int64)})
    weights = np.array([totals[BoxAccuracy].counts["images"] for totals in filled([one], [0], 20000).replicates()])
    expected = np.exp(-1) / np.array([1, 1, 2, 6])
    np.testing.assert_allclose(np.bincount(weights)[:4] / 20000, expected, atol=0.01)


def test_parts_of_a_split_merge_to_the_whole_in_any_order():
    metrics = box_metrics(np.random.default_rng(1))
    whole = filled(metrics, range(IMAGES), 50)
    part, other = filled(metrics, range(200, IMAGES), 50), filled(metrics, range(200), 50)
    part.merge(other)
    for a, b in zip(whole.replicates(), part.replicates(), strict=True):
        for name, counts in a[BoxAccuracy].counts.items():
            np.testing.assert_array_equal(b[BoxAccuracy].counts[name], counts)
    with pytest.raises(InputError, match="cannot be merged"):
        part.merge(filled(metrics, [0], 51))


def test_intervals_are_those_of_the_ordinary_bootstrap_and_of_the_binomial():
    metrics = box_metrics(np.random.default_rng(2))
    found = np.stack([metric.counts["localized"][0, 1, 0] for metric in metrics])
    rng = np.random.default_rng(3)
    resampled = np.stack([found[rng.integers(0, IMAGES, IMAGES)].mean(axis=0) for _ in range(3000)])
    replicates = filled(metrics, range(IMAGES)).figures(figures)
    intervals = {name: interval(values) for name, values in replicates.items()}
    # The ends of 1,500 and of 3,000 replicates scatter by about .3 points; the intervals are 11 points wide.
    expected = 100 * np.percentile(resampled.max(axis=1), [2.5, 97.5])
    np.testing.assert_allclose(intervals["MaxBoxAcc"], expected, atol=1)
    expected = 100 * np.percentile(resampled[:, 5], [2.5, 97.5])
    np.testing.assert_allclose(intervals["BoxAcc_at_0.5"], expected, atol=1)
    share = found[:, 5].mean()
    half = 1.96 * np.sqrt(share * (1 - share) / IMAGES)
    np.testing.assert_allclose(intervals["BoxAcc_at_0.5"], [100 * (share - half), 100 * (share + half)], atol=1)


def test_empty_replicates_of_a_tiny_split_are_passed_over_and_no_image_is_an_error():
    metrics = box_metrics(np.random.default_rng(4), 1)
    replicates = filled(metrics, [0], 100).figures(figures)["MaxBoxAcc"]
    low, high = interval(replicates)
    assert len(replicates) == 100 and 20 < np.isnan(replicates).sum() < 55
    assert low == high == 100
    with pytest.raises(InputError, match="no image"):
        Bootstrap(10).figures(figures)
