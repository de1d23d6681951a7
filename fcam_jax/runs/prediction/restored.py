"""A network's map brought back to its image: the map at the image's size, its 8-bit levels, and boxes in its pixels."""

import dataclasses
import math

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from fcam_jax.errors import InputError
from fcam_jax.evaluation.boxes import level_thresholds, quantise
from fcam_jax.evaluation.component_tree import LEVELS
from fcam_jax.runs.report.drawing import Size

_PIXELS_TOGETHER = 2**20


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Where a map is cut."""

    value: float  # in [0, 1)
    source: str  # where it comes from, for people
    of_maximum: bool = True  # whether it is a share of each map's maximum, as in the evaluation, or an absolute score

    def level(self, levels: UInt8[np.ndarray, "h w"]) -> int:
        """The level that foreground must exceed."""
        if self.of_maximum:
            return int(level_thresholds(np.array([self.value]), levels)[0])
        return int(self.value * (LEVELS - 1))


@dataclasses.dataclass(frozen=True)
class Predicted:
    """What the network says about a batch of images."""

    maps: Float[np.ndarray, "b h w"]  # of the labels, at the size of the network's images, in [0, 1]
    logits: Float[np.ndarray, "b k"]  # class scores before softmax
    labels: Int[np.ndarray, " b"]  # class of each map
    several: bool = False  # whether an image may be of several classes, each with a probability of its own

    def probabilities(self, i: int) -> Float[np.ndarray, " k"]:
        """Of an image's classes; a single class is there or not, which only a sigmoid can say."""
        logits = self.logits[i].astype(np.float64)
        if self.several or len(logits) == 1:
            return 0.5 + 0.5 * np.tanh(0.5 * logits)
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()


@dataclasses.dataclass(frozen=True)
class Restored:
    """What the network says about one image, in the image's frame."""

    score_map: Float[np.ndarray, "h w"]  # in [0, 1], of a height and width that may be less than the image's
    levels: UInt8[np.ndarray, "h w"]  # the same as the evaluation cuts it
    level: int  # foreground is above it
    boxes: Int[np.ndarray, "n 4"]  # around the regions of the foreground in pixels of the image, the largest first
    logits: Float[np.ndarray, " k"]  # class scores before softmax
    probabilities: Float[np.ndarray, " k"]
    label: int  # class of the map

    @property
    def mask(self) -> Bool[np.ndarray, "h w"]:
        """True in the foreground."""
        return self.levels > self.level

    def cut(self, threshold: Threshold) -> "Restored":
        """The same, cut at another threshold; the map has its image's size."""
        level = threshold.level(self.levels)
        return dataclasses.replace(self, level=level, boxes=boxes_above(self.levels, level))


def restored(found: Predicted, i: int, size: Size, threshold: Threshold, longest: int | None = None) -> Restored:
    """Bring the image at a place of a batch back to its size; sides of the map are at most `longest` if that is given.

    Raises:
      InputError: the map or the class scores are no numbers.
    """
    logits = found.logits[i]
    if not (np.isfinite(found.maps[i]).all() and np.isfinite(logits).all()):
        raise InputError(
            "the network's map or class scores hold NaN or infinity; its weights are damaged, or training diverged"
        )
    frame = size if longest is None else bounded(size, longest)
    score_map = restore(found.maps[i], frame)
    levels = to_levels(score_map)
    level = threshold.level(levels)
    boxes = rescale(boxes_above(levels, level), frame, size)
    return Restored(score_map, levels, level, boxes, logits, found.probabilities(i), int(found.labels[i]))


def restore(score_map: Float[np.ndarray, "a b"], size: Size) -> Float[np.ndarray, "h w"]:
    """A map in [0, 1] at another size, by bilinear interpolation with half-pixel centres."""
    resized = cv2.resize(score_map.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(resized, 0, 1, out=resized)


def to_levels(score_map: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The map in 8 bits as the evaluation cuts it; a part at a time, as that computes in float64."""
    parts = math.ceil(score_map.size / _PIXELS_TOGETHER)
    return np.concatenate([quantise(rows) for rows in np.array_split(score_map, min(parts, len(score_map)))])


def boxes_above(levels: UInt8[np.ndarray, "h w"], level: int) -> Int[np.ndarray, "n 4"]:
    """Boxes ``x0, y0, x1, y1`` around the connected regions above a level, that of largest area first.

    Corners, area and the order of equal areas are the evaluation's: ``x1, y1`` lie one past the last pixel, or on it at
    the map's edge. Regions in the hole of another are left out.

    Differs from: `component_tree`, which finds the boxes of all levels, at several times the memory.
    """
    mask = (levels > level).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes = [cv2.boundingRect(outline) for outline in sorted(outlines, key=cv2.contourArea, reverse=True)]
    x, y, width, height = np.array(boxes, np.int64).reshape(-1, 4).T
    rows, columns = levels.shape
    return np.stack([x, y, np.minimum(x + width, columns - 1), np.minimum(y + height, rows - 1)], axis=1)


def rescale(boxes: Int[np.ndarray, "n 4"], from_size: Size, to_size: Size) -> Int[np.ndarray, "n 4"]:
    """Boxes of inclusive corners in a frame of another size, to the nearest pixel.

    $$ c_0' = [c_0 s], \\qquad c_1' = [(c_1 + 1) s] - 1, \\qquad s = to / from $$
    """
    scale = np.array(to_size[::-1]) / np.array(from_size[::-1])
    first = np.rint(boxes[:, :2] * scale)
    last = np.maximum(np.rint((boxes[:, 2:] + 1) * scale) - 1, first)
    return np.minimum(np.concatenate([first, last], axis=1), np.tile(to_size[::-1], 2) - 1).astype(np.int64)


def bounded(size: Size, longest: int) -> Size:
    """A size of the same shape, with neither side above `longest`; no larger than it was."""
    factor = min(1.0, longest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
