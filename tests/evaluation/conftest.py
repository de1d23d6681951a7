"""The protocol's boxes from OpenCV, one threshold at a time, and maps that are hard on whoever finds them faster."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest


def _opencv_boxes(levels: np.ndarray, threshold: int) -> tuple[np.ndarray, np.ndarray]:
    binary = (levels > threshold).astype(np.uint8)
    found, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not found:
        return np.zeros((1, 4), int), np.zeros(4, int)
    height, width = levels.shape
    rectangles = [cv2.boundingRect(contour) for contour in found]
    boxes = np.array([[x, y, min(x + w, width - 1), min(y + h, height - 1)] for x, y, w, h in rectangles])
    return boxes, boxes[np.argmax([cv2.contourArea(contour) for contour in found])]


@pytest.fixture
def opencv_boxes() -> Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]:
    """Function of (8-bit map, threshold): all boxes, and the box of the largest contour."""
    return _opencv_boxes


def _noise(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    return rng.integers(0, 256, (h, w))


def _plateaus(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    return rng.integers(0, rng.integers(2, 6), (h, w)) * rng.integers(1, 40)


def _binary(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    return (rng.random((h, w)) < rng.uniform(0.05, 0.95)) * rng.integers(1, 256)


def _smooth(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    low = rng.random((int(rng.integers(1, 8)), int(rng.integers(1, 8))))
    return 255 * np.clip(cv2.resize(low, (w, h), interpolation=cv2.INTER_CUBIC), 0, 1)


def _rings(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    y, x = np.mgrid[:h, :w]
    distance = np.hypot(y - rng.uniform(0, h), x - rng.uniform(0, w))
    return (127 + 127 * np.sin(rng.uniform(0.3, 3) * distance)) // rng.integers(1, 80)


@pytest.fixture(params=[_noise, _plateaus, _binary, _smooth, _rings], ids=lambda maker: maker.__name__[1:])
def random_levels(request: pytest.FixtureRequest) -> list[np.ndarray]:
    """8-bit maps of one kind, of sizes from a single pixel up, few of them square."""
    rng = np.random.default_rng(0)
    sides = [(1, 1), (1, 9), (9, 1), (2, 2), (32, 32), *rng.integers(3, 33, (45, 2)).tolist()]
    return [np.clip(request.param(rng, h, w), 0, 255).astype(np.uint8) for h, w in sides]
