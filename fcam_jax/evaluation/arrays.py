"""The protocol's figures from arrays, as a library gives them: maps with boxes, masks or class scores.

In: arrays or lists, an entry for each image. Out: an `Evaluation`. Whatever is wrong is one line that names argument
and entry.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.component import at_least
from fcam_jax.errors import InputError
from fcam_jax.evaluation.class_accuracy import class_ranks
from fcam_jax.evaluation.metric import Metric, Scored, thresholds
from fcam_jax.evaluation.metrics import kinds
from fcam_jax.evaluation.plausibility import Plausibility
from fcam_jax.evaluation.result import Evaluation
from fcam_jax.evaluation.score_map import check_aspects, scaled_map
from fcam_jax.evaluation.stream import Wanted, evaluate_each
from fcam_jax.types import Annotation

logger = logging.getLogger(__name__)

Arrays = np.ndarray | Sequence[Any] | Any  # also arrays of other libraries, which NumPy can read

_LARGEST = 32_767  # pixels of a side, OpenCV's limit
_CORNERS = "give corners x0, y0, x1, y1 in pixels of the frame, the last ones included"


def evaluate_arrays(
    maps: Arrays,
    *,
    boxes: Arrays | None = None,
    masks: Arrays | None = None,
    ignore: Arrays | None = None,
    labels: Arrays | None = None,
    logits: Arrays | None = None,
    predictions: Arrays | None = None,
    size: int | tuple[int, int] | None = None,
    minmax: bool = False,
    threshold_step: float = 0.001,
    also: Sequence[str] | str = (),
    bootstrap: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Figures of score maps by the protocol: MaxBoxAcc and MaxBoxAccV2 with boxes, PxAP with masks, top-1 and top-5.

    Boxes are inclusive pixel corners ``x0, y0, x1, y1`` in the frame of evaluation: a box of one pixel has ``x0 = x1``.
    As in the protocol's files, ``x1`` and ``y1`` may be the frame's width and height. The frame is `size` or, without
    it, that of the image's mask or map.

    Args:
      maps: an image's map of its true class each: [n, h, w], [n, h, w, 1], or a list of matrices of any sizes; floating
        point, in [0, 1]. A map of another size than the frame is resized and scaled to [0, 1], as the protocol does
        with CAMs of low resolution.
      boxes: [n, 4], one box an image, or a list with [k, 4] or [4] for each, None for an image without an object.
      masks: of the object, [n, h, w] or a list, likewise; bool, or 0 and 1.
      ignore: where the masks are undecided, likewise.
      labels: true class of each image, from 0.
      logits: class scores, [n, classes].
      predictions: instead of logits: predicted class of each image, [n], or classes, best first, [n, k].
      size: side, or height and width, of the frame of evaluation, in pixels; the protocol's is 224.
      minmax: scale maps of the frame's size to [0, 1], too.
      threshold_step: distance of two thresholds, in (0, 1].
      also: names of metrics beyond the protocol, e.g. "PointingGame"; see `METRICS`.
      bootstrap: replicates for 95 % intervals; 0 gives none.
      seed: of the replicates.

    Returns:
      Figures as ``.metrics``, ``.best_thresholds``, ``.curves`` over ``.thresholds`` and more; as text, a table.

    Raises:
      InputError: an argument cannot be used.

    Reference: Choe et al., CVPR 2020.
    """
    measured: tuple[type[Metric], ...] = (*kinds(also), Plausibility)
    wanted = Wanted(step=threshold_step, kinds=measured, bootstrap=bootstrap, seed=seed, parts=True)
    thresholds(threshold_step)
    at_least(wanted, bootstrap=0, seed=0)
    entries = [np.asarray(one) for one in _entries("maps", maps)]
    if not entries:
        raise InputError("maps is empty: there is nothing to evaluate")
    n = len(entries)
    given = {"boxes": boxes, "masks": masks, "ignore": ignore, "labels": labels}
    given |= {"logits": logits, "predictions": predictions}
    known = {name: _entries(name, value, n) for name, value in given.items() if value is not None}
    if not known.keys() & {"boxes", "masks", "logits", "predictions"}:
        raise InputError("there is nothing to measure by: give boxes or masks, or labels with logits or predictions")
    if "ignore" in known and "masks" not in known:
        raise InputError("ignore needs masks: it says where they are undecided")
    truths = [None if mask is None else _mask(f"masks[{i}]", mask) for i, mask in enumerate(known.get("masks", ()))]
    if truths and not any(mask is not None and mask.any() for mask in truths):
        raise InputError("masks holds no pixel of an object in any image")
    frames = _frames(entries, truths, size)
    shapes = [(int(one.shape[0]), int(one.shape[1])) if one.ndim == 2 else (1, 1) for one in map(_channel, entries)]
    known_frames = frames if size is None or frames[0][0] != frames[0][1] else [(0, 0)] * n
    warnings = check_aspects(shapes, known_frames, lambda i: f"maps[{i}]")
    classes = _labels(known["labels"]) if "labels" in known else None
    ranks, complete = _ranks(known, classes)
    annotations = []
    for i, frame in enumerate(frames):
        mask = truths[i] if truths else None
        unknown = None if mask is None or "ignore" not in known else _mask(f"ignore[{i}]", known["ignore"][i])
        for name, pixels in ((f"masks[{i}]", mask), (f"ignore[{i}]", unknown)):
            if pixels is not None and pixels.shape != frame:
                raise InputError(f"{name} has {_pixels(pixels.shape)}, the frame of evaluation {_pixels(frame)}")
        truth = _boxes(i, known["boxes"][i], frame) if "boxes" in known else None
        annotations.append(Annotation(str(i), 0 if classes is None else int(classes[i]), truth, mask, unknown))

    def load(i: int) -> Scored:
        scaled = scaled_map(_channel(entries[i]), frames[i], minmax, f"maps[{i}]")
        return Scored(scaled, annotations[i], None if ranks is None else int(ranks[i]), i)

    found = evaluate_each(load, len(entries), wanted)
    found = found if complete else found.without("top5")
    for line in (*warnings, *found.warnings):
        logger.warning(line)
    return found if classes is not None else dataclasses.replace(found, by_class={})


def _entries(name: str, values: Arrays, n: int | None = None) -> list[Any]:
    """An entry for each image, of which there are `n` where that is known."""
    if not hasattr(values, "__len__") or isinstance(values, str | bytes | dict):
        raise InputError(f"{name} is {type(values).__name__}; give an array or a list with an entry for each image")
    values = values if isinstance(values, list | tuple) else np.asarray(values)
    if name in ("maps", "masks", "ignore") and isinstance(values, np.ndarray) and values.ndim == 2:
        raise InputError(
            f"{name} has shape {values.shape}, a single image's; give [n, h, w], for one image {name}[None]"
        )
    if n is not None and len(values) != n:
        single = "; give a list of boxes for each image" if name == "boxes" and n == 1 else ""
        raise InputError(f"{name} has {len(values)} entries, maps {n}: there must be one for each image{single}")
    return list(values)


def _channel(pixels: np.ndarray) -> np.ndarray:
    """A matrix without a last axis of one channel."""
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def _mask(name: str, values: Any) -> Bool[np.ndarray, "h w"]:
    mask = _channel(np.asarray(values))
    if mask.ndim != 2 or mask.size == 0:
        raise InputError(f"{name} has shape {mask.shape}, must be (height, width)")
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        odd = mask[~np.isin(mask, (0, 1))].flat[0]
        raise InputError(f"{name} holds {odd:g}; it must be bool, or 0 and 1, e.g. {name.partition('[')[0]} > 0")
    return mask.astype(bool)


def _frames(
    maps: list[np.ndarray], masks: list[np.ndarray | None], size: int | tuple[int, int] | None
) -> list[tuple[int, int]]:
    """Height and width that each image is evaluated at."""
    if size is None:
        given = masks or [None] * len(maps)
        shapes = [_channel(one).shape if mask is None else mask.shape for one, mask in zip(maps, given, strict=True)]
        for i, shape in enumerate(shapes):
            if len(shape) != 2 or 0 in shape:
                raise InputError(f"maps[{i}] has shape {shape}, must be (height, width)")
        return [(int(shape[0]), int(shape[1])) for shape in shapes]
    sides = (size, size) if isinstance(size, int | np.integer) else size
    whole = np.shape(sides) == (2,) and all(isinstance(side, int | np.integer) for side in sides)
    if not whole or not all(1 <= side <= _LARGEST for side in sides):
        at_most = f", at most {_LARGEST}" if whole else ""
        raise InputError(f"size is {size!r:.99}; it must be a number of pixels, or height and width{at_most}")
    return [(int(sides[0]), int(sides[1]))] * len(maps)


def _boxes(i: int, values: Any, frame: tuple[int, int]) -> Int[np.ndarray, "n 4"] | None:
    """The boxes of an image, after all checks; None where that was given."""
    if values is None:
        return None
    name, (height, width) = f"boxes[{i}]", frame
    try:
        boxes = np.asarray(values)
    except ValueError:
        boxes = np.zeros((0, 0))
    if boxes.shape == (4,):
        boxes = boxes[None]
    if boxes.size == 0 and boxes.dtype != object and boxes.shape[-1] in (0, 4):
        raise InputError(f"{name} is empty; an image without an object has None, and counts for classification alone")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        raise InputError(f"{name} is no list of boxes; {_CORNERS}")

    def refuse(wrong: Any, why: str) -> None:
        if wrong.any():
            numbers = ", ".join(f"{number:g}" for number in boxes[wrong.argmax()])
            raise InputError(f"{name} holds [{numbers}], {why}")

    refuse(~np.isfinite(boxes).all(axis=1), "which is no box")
    if boxes.dtype.kind == "f":
        refuse(boxes.max(axis=1) <= 1, f"which looks like shares of the image; {_CORNERS}")
        refuse((boxes != np.floor(boxes)).any(axis=1), f"which are no whole pixels; {_CORNERS}, e.g. by np.floor")
    refuse((boxes[:, 2:] < boxes[:, :2]).any(axis=1), f"which looks like x, y, width, height; {_CORNERS}")
    outside = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
    outside |= (boxes[:, 0] >= width) | (boxes[:, 1] >= height)
    fits = height != width and (boxes[:, 2] <= height).all() and (boxes[:, 3] <= width).all()
    turned = "maps are [n, height, width]; " if fits else ""
    refuse(outside, f"beyond its frame of {_pixels(frame)}; {turned}where boxes are in another frame, give size=")
    return boxes.astype(np.int64)


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"


def _labels(values: list[Any]) -> Int[np.ndarray, " n"]:
    try:
        labels = np.asarray(values)
    except ValueError:
        raise InputError("labels has several for an image; give a whole number for each image") from None
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(f"labels is {labels.dtype} of shape {labels.shape}; give a whole number for each image")
    if labels.min() < 0:
        i = int(labels.argmin())
        raise InputError(f"labels[{i}] is {labels[i]}; classes count from 0")
    return labels.astype(np.int64)


def _ranks(
    known: dict[str, list[Any]], labels: Int[np.ndarray, " n"] | None
) -> tuple[Int[np.ndarray, " n"] | None, bool]:
    """How many classes are predicted before each image's true one, and whether that settles the first five."""
    named = known.keys() & {"logits", "predictions"}
    if not named:
        return None, True
    if labels is None or len(named) == 2:
        raise InputError(f"{' and '.join(sorted(named))}: give labels with either logits or predictions")
    name = named.pop()
    try:
        values = np.asarray(known[name])
    except ValueError:
        raise InputError(f"{name} has entries of different lengths") from None
    if name == "predictions":
        return _ranks_of_lists(values[:, None] if values.ndim == 1 else values, labels)
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise InputError(f"logits is {values.dtype} of shape {values.shape}; give numbers [n, classes]")
    if values.shape[1] == 1:
        raise InputError("logits are of one class, whose top-1 is always 100; leave them out, or give two")

    if np.isnan(values).any():
        raise InputError(f"logits[{np.isnan(values).any(axis=1).argmax()}] holds NaN")
    if labels.max() >= values.shape[1]:
        i = int(labels.argmax())
        raise InputError(f"labels[{i}] is {labels[i]}; logits are of {values.shape[1]} classes")
    return class_ranks(values, labels, [""] * len(labels)), True


def _ranks_of_lists(lists: np.ndarray, labels: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], bool]:
    if lists.ndim != 2 or lists.dtype.kind not in "iu" or lists.shape[1] == 0:
        raise InputError(
            f"predictions is {lists.dtype} of shape {lists.shape}; give classes [n], or [n, k], best first"
        )
    ordered = np.sort(lists, axis=1)
    for i in np.flatnonzero((ordered[:, 0] < 0) | (np.diff(ordered, axis=1) == 0).any(axis=1)).tolist():
        raise InputError(f"predictions[{i}] is {lists[i].tolist()}; it must hold classes from 0, each once")
    hit = lists == labels[:, None]
    ranks = np.where(hit.any(axis=1), hit.argmax(axis=1), max(lists.shape[1], 5))
    return ranks, bool(hit.any(axis=1).all() or lists.shape[1] >= 5)
