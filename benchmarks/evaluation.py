"""Time an image of the localization metrics against the plain loops of the protocol, and their scaling with threads.

Run from the repository's root: ``python -m benchmarks.evaluation``. The plain loops are a ``findContours`` per
threshold for boxes and a comparison per threshold for masks; their results are compared too. Takes about a minute.
"""

import concurrent.futures
import os
import time
from collections.abc import Callable

import cv2
import numpy as np

from fcam_jax.evaluation.boxes import best_iou, box_iou
from fcam_jax.evaluation.metric import thresholds
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.types import Annotation

SIDE = 224
STEP = 0.001


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


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Shortest of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def compare_boxes(maps: dict[str, np.ndarray], truth: np.ndarray) -> None:
    """Print the time of the box metrics an image, for each kind of map."""
    print(f"{'boxes':24} {'plain ms':>9} {'here ms':>8} {'ratio':>6}")
    for name, score_map in maps.items():
        expected = plain_best_iou(score_map, truth)
        found = best_iou(score_map, truth, thresholds(STEP))
        assert np.array_equal(expected[0], found.largest) and np.array_equal(expected[1], found.any_contour)
        plain = seconds(lambda m=score_map: plain_best_iou(m, truth), 1 if "pixel" in name else 5)
        here = seconds(lambda m=score_map: best_iou(m, truth, thresholds(STEP)), 20)
        print(f"{name:24} {1e3 * plain:9.1f} {1e3 * here:8.2f} {plain / here:6.0f}")


def compare_masks(score_map: np.ndarray) -> None:
    """Print the time of PxAP an image."""
    mask = score_map > 0.6
    annotation = Annotation("benchmark", 0, mask=mask)
    metric = PixelPrecision.empty(STEP)
    counts = metric.measure(score_map, annotation).counts
    expected = plain_histograms(score_map, mask)
    assert np.array_equal(expected[0], counts["foreground"][: len(expected[0])])
    assert np.array_equal(expected[1], counts["background"][: len(expected[1])])
    plain = seconds(lambda: plain_histograms(score_map, mask), 3)
    library = seconds(lambda: [np.histogram(score_map[m], [*thresholds(STEP), 1, 2, 3]) for m in (mask, ~mask)], 5)
    here = seconds(lambda: metric.measure(score_map, annotation), 50)
    print(f"{'masks, per threshold':24} {1e3 * plain:9.1f} {1e3 * here:8.2f} {plain / here:6.0f}")
    print(f"{'masks, np.histogram':24} {1e3 * library:9.1f} {1e3 * here:8.2f} {library / here:6.0f}")


def scale_threads(score_map: np.ndarray, truth: np.ndarray, images: int = 200) -> None:
    """Print images a second with one thread and more, up to the number of cores."""
    taus = thresholds(STEP)
    cores = len(os.sched_getaffinity(0))
    for threads in sorted({1, 2, cores} & set(range(1, cores + 1))):
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            elapsed = seconds(lambda p=pool: list(p.map(lambda _: best_iou(score_map, truth, taus), range(images))), 3)
        print(f"{threads} thread(s): {images / elapsed:.0f} images/s")


def main() -> None:
    """Run all comparisons."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    maps = {
        "smooth (5x5 enlarged)": enlarged_noise(rng, 5),
        "rough (14x14 enlarged)": enlarged_noise(rng, 14),
        "noise (28x28 enlarged)": enlarged_noise(rng, 28),
        "pixel noise": rng.random((SIDE, SIDE)),
    }
    truth = np.array([[40, 30, 180, 170], [100, 20, 130, 60]])
    compare_boxes(maps, truth)
    compare_masks(maps["rough (14x14 enlarged)"])
    scale_threads(maps["rough (14x14 enlarged)"], truth)


if __name__ == "__main__":
    main()
