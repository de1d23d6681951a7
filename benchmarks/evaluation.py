"""Time an image of the localization metrics against the plain loops of the protocol, and their scaling with threads.

Run from the repository's root: ``python -m benchmarks.evaluation``. The plain loops are a ``findContours`` per
threshold for boxes, and for masks a comparison per threshold or NumPy's histogram; their results are compared too. Both
sides take turns, on several maps of each kind, so that other work on the machine meets them alike. Takes a minute.
"""

import concurrent.futures
import os
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from fcam_jax.evaluation.boxes import best_iou, box_iou
from fcam_jax.evaluation.findings import Wanted, measured
from fcam_jax.evaluation.metric import Scored, thresholds
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.types import Annotation

SIDE = 224
STEP = 0.001
MAPS = 8
WANTED = Wanted(step=STEP)  # with the metrics that a run's evaluation has


def enlarged_noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """White noise on a small grid, enlarged to the size of an image and scaled to [0, 1]."""
    score_map = cv2.resize(rng.random((side, side)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return (score_map - score_map.min()) / np.ptp(score_map)


def plain_best_iou(score_map: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best IoU at every threshold of the largest and of any contour, by one call of OpenCV per threshold."""
    levels = (score_map * 255).astype(np.uint8)
    largest, any_contour = [], []
    for tau in thresholds(STEP):
        binary = (levels > int(tau * levels.max())).astype(np.uint8)
        found, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        rectangles = [cv2.boundingRect(contour) for contour in found]
        boxes = np.array([[x, y, min(x + w, SIDE - 1), min(y + h, SIDE - 1)] for x, y, w, h in rectangles])
        iou = box_iou(boxes, truth).max(axis=1)
        any_contour.append(iou.max())
        largest.append(iou[np.argmax([cv2.contourArea(contour) for contour in found])])
    return np.array(largest), np.array(any_contour)


def plain_histograms(score_map: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and background pixels per bin of scores, by one comparison per threshold."""
    above = [(score_map[mask] >= tau).sum() for tau in thresholds(STEP)]
    above_background = [(score_map[~mask] >= tau).sum() for tau in thresholds(STEP)]
    return -np.diff(above), -np.diff(above_background)


def milliseconds(call: Callable[[int], object], i: int) -> float:
    """Processor time of one run with a map, which does not grow while other work has the processor."""
    start = time.thread_time()
    call(i)
    return 1e3 * (time.thread_time() - start)


def compare(
    name: str, plain: Callable[[int], object], here: Callable[[int], object], maps: int, rounds: int, repeats: int = 4
) -> float:
    """Print minimum and median of the times of two ways to treat an image, and their ratios.

    Args:
      name: of the row.
      plain: the plain way, given a map's position.
      here: ours.
      maps: number of maps.
      rounds: how often each map is treated in the plain way.
      repeats: how often it is then in ours.

    Returns:
      Median of our way.
    """
    here(0)
    turns = [i for _ in range(rounds) for i in range(maps)]
    times = np.array([[milliseconds(way, i) for way in (plain, *repeats * [here])] for i in turns])
    cells = [(statistic(times[:, 0]), statistic(times[:, 1:])) for statistic in (np.min, np.median)]
    print(f"{name:32}" + "".join(f"{theirs:10.2f}{ours:8.2f}{theirs / ours:8.0f}" for theirs, ours in cells))
    return float(cells[1][1])


def compare_boxes(name: str, maps: Sequence[np.ndarray], truth: np.ndarray) -> float:
    """Print a row for the box metrics of a kind of maps; returns the median of our time."""
    for score_map in maps[:3]:
        expected, found = plain_best_iou(score_map, truth), best_iou(score_map, truth, thresholds(STEP))
        assert np.array_equal(expected[0], found.largest) and np.array_equal(expected[1], found.any_contour)
    return compare(
        name,
        lambda i: plain_best_iou(maps[i], truth),
        lambda i: best_iou(maps[i], truth, thresholds(STEP)),
        len(maps),
        # Where the plain way takes many seconds, a single map.
        **({"rounds": 4} if len(maps) > 1 else {"rounds": 1, "repeats": 40}),
    )


def compare_masks(maps: Sequence[np.ndarray]) -> None:
    """Print rows for PxAP."""
    masks = [score_map > 0.6 for score_map in maps]
    truths = [Annotation("benchmark", 0, mask=mask) for mask in masks]
    metric = PixelPrecision(STEP)
    counts = metric.update(maps[0], truths[0]).counts
    expected = plain_histograms(maps[0], masks[0])
    assert np.array_equal(expected[0], counts["foreground"][: len(expected[0])])
    assert np.array_equal(expected[1], counts["background"][: len(expected[1])])

    def library(i: int) -> list[object]:
        return [np.histogram(maps[i][part], [*thresholds(STEP), 1, 2, 3]) for part in (masks[i], ~masks[i])]

    def here(i: int) -> PixelPrecision:
        return metric.update(maps[i], truths[i])

    compare("masks, per threshold", lambda i: plain_histograms(maps[i], masks[i]), here, len(maps), rounds=1)
    compare("masks, np.histogram", library, here, len(maps), rounds=10)
    # All that the evaluator does for an image, histogram of scores and checks of the map included.
    compare(
        "measure with mask, np.histogram",
        library,
        lambda i: measured(Scored(maps[i], truths[i], 0), WANTED),
        MAPS,
        10,
    )


def scale_threads(score_map: np.ndarray, truth: np.ndarray, images: int = 500) -> None:
    """Print images in a second of the clock with one thread and more, up to the number of cores."""
    taus = thresholds(STEP)
    cores = len(os.sched_getaffinity(0))
    for threads in sorted({1, 2, cores} & set(range(1, cores + 1))):
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            start = time.perf_counter()
            list(pool.map(lambda _: best_iou(score_map, truth, taus), range(images)))
        print(f"{threads} thread(s): {images / (time.perf_counter() - start):.0f} images/s")


def main() -> None:
    """Run all comparisons."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    maps = {
        name: [enlarged_noise(rng, side) for _ in range(MAPS)]
        for name, side in [("smooth (5x5 enlarged)", 5), ("rough (14x14 enlarged)", 14), ("noise (28x28 enlarged)", 28)]
    }
    maps["pixel noise"] = [rng.random((SIDE, SIDE))]
    truth = np.array([[40, 30, 180, 170], [100, 20, 130, 60]])
    print(f"{'ms an image, minimum and median':32}" + 2 * f"{'plain':>10}{'here':>8}{'ratio':>8}")
    medians = [compare_boxes(name, some, truth) for name, some in maps.items()]
    smooth, annotation = maps["smooth (5x5 enlarged)"], Annotation("benchmark", 0, boxes=truth)
    compare(
        "measure with boxes, smooth",
        lambda i: plain_best_iou(smooth[i], truth),
        lambda i: measured(Scored(smooth[i], annotation, 0), WANTED),
        MAPS,
        rounds=4,
    )
    compare_masks(maps["rough (14x14 enlarged)"])
    print(f"pixel noise takes {medians[-1] / medians[0]:.1f} times as long here as a smooth map")
    scale_threads(maps["rough (14x14 enlarged)"][0], truth)


if __name__ == "__main__":
    main()
