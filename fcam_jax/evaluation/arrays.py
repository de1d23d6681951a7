"""The protocol's figures from arrays, as a library gives them: maps with boxes, masks or class scores.

Whatever is wrong is one line that names argument and entry.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from fcam_jax.component import at_least
from fcam_jax.errors import InputError
from fcam_jax.evaluation.class_accuracy import class_ranks
from fcam_jax.evaluation.findings import Wanted
from fcam_jax.evaluation.metric import Metric, Scored, thresholds
from fcam_jax.evaluation.metrics import kinds
from fcam_jax.evaluation.plausibility import Plausibility
from fcam_jax.evaluation.result import Evaluation
from fcam_jax.evaluation.score_map import check_aspects, scaled_map
from fcam_jax.evaluation.stream import evaluate_each
from fcam_jax.types import Annotation

logger = logging.getLogger(__name__)

Arrays = np.ndarray | Sequence[Any] | Any  # also arrays of other libraries, which NumPy can read

_LARGEST = 32_767  # pixels of a side, OpenCV's limit


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
    matrices = [_matrix(f"maps[{i}]", one) for i, one in enumerate(_entries("maps", maps))]
    if not matrices:
        raise InputError("maps is empty: there is nothing to evaluate")
    given = {"boxes": boxes, "masks": masks, "ignore": ignore, "labels": labels}
    given |= {"logits": logits, "predictions": predictions}
    known = {name: _entries(name, value, len(matrices)) for name, value in given.items() if value is not None}
    if not known.keys() & {"boxes", "masks", "logits", "predictions"}:
        raise InputError("there is nothing to measure by: give boxes or masks, or labels with logits or predictions")
    if "ignore" in known and "masks" not in known:
        raise InputError("ignore needs masks: it says where they are undecided")
    truths, undecided = (_masks(name, known.get(name, [None] * len(matrices))) for name in ("masks", "ignore"))
    if "masks" in known and not any(mask is not None and mask.any() for mask in truths):
        raise InputError("masks holds no pixel of an object in any image")
    frames = _frames(matrices, truths, size)
    told = size is None or frames[0][0] != frames[0][1]
    warnings = check_aspects(_shapes(matrices), frames if told else [(0, 0)] * len(frames), lambda i: f"maps[{i}]")
    classes = None
    if "labels" in known:
        classes = _numbers("labels", known["labels"], "iu", (1,), "a whole number for each image").astype(np.int64)
        if classes.min() < 0:
            raise InputError(f"labels[{classes.argmin()}] is {classes.min()}; classes count from 0")
    ranks, complete = _ranks(known, classes)
    annotations = []
    for i, (frame, mask, unknown) in enumerate(zip(frames, truths, undecided, strict=True)):
        for name, pixels in (("masks", mask), ("ignore", None if mask is None else unknown)):
            if pixels is not None and pixels.shape != frame:
                there = f"{_pixels(pixels.shape)}, the frame of evaluation {_pixels(frame)}"
                raise InputError(f"{name}[{i}] has {there}")
        truth = _boxes(f"boxes[{i}]", known["boxes"][i], frame) if "boxes" in known else None
        label = 0 if classes is None else int(classes[i])
        annotations.append(Annotation(str(i), label, truth, mask, None if mask is None else unknown))

    def load(i: int) -> Scored:
        scaled = scaled_map(matrices[i], frames[i], minmax, f"maps[{i}]")
        return Scored(scaled, annotations[i], None if ranks is None else int(ranks[i]), i)

    found = evaluate_each(load, len(matrices), wanted)
    for line in (*warnings, *found.warnings):
        logger.warning(line)
    found = found if complete else found.without("top5")
    return found if classes is not None else dataclasses.replace(found, by_class={})


def _entries(name: str, values: Arrays, n: int | None = None) -> list[Any]:
    """An entry for each image, of which there are `n` where that is known."""
    if not hasattr(values, "__len__") or isinstance(values, str | bytes | dict):
        raise InputError(f"{name} is {type(values).__name__}; give an array or a list with an entry for each image")
    values = values if isinstance(values, list | tuple) else np.asarray(values)
    if name in ("maps", "masks", "ignore") and isinstance(values, np.ndarray) and values.ndim == 2:
        one = f"{name} has shape {values.shape}, a single image's"
        raise InputError(f"{one}; give [n, h, w], for one image {name}[None]")
    if n is not None and len(values) != n:
        single = "; give a list of boxes for each image" if name == "boxes" and n == 1 else ""
        raise InputError(f"{name} has {len(values)} entries, maps {n}: there must be one for each image{single}")
    return list(values)


def _matrix(name: str, values: Any) -> np.ndarray:
    """A matrix, perhaps with a last axis of one channel."""
    pixels = np.asarray(values)
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    if pixels.ndim != 2 or pixels.size == 0:
        raise InputError(f"{name} has shape {pixels.shape}, must be (height, width)")
    return pixels


def _masks(name: str, values: list[Any]) -> list[np.ndarray | None]:
    masks = [None if one is None else _matrix(f"{name}[{i}]", one) for i, one in enumerate(values)]
    for i, mask in enumerate(masks):
        if mask is not None and mask.dtype != bool and not np.isin(mask, (0, 1)).all():
            odd = mask[~np.isin(mask, (0, 1))].flat[0]
            raise InputError(f"{name}[{i}] holds {odd:g}; it must be bool, or 0 and 1, e.g. {name} > 0")
    return [None if mask is None else mask.astype(bool) for mask in masks]


def _shapes(matrices: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    return [(int(one.shape[0]), int(one.shape[1])) for one in matrices]


def _frames(
    maps: list[np.ndarray], masks: list[np.ndarray | None], size: int | tuple[int, int] | None
) -> list[tuple[int, int]]:
    """Height and width that each image is evaluated at."""
    if size is None:
        return _shapes([one if mask is None else mask for one, mask in zip(maps, masks, strict=True)])
    sides = (size, size) if isinstance(size, int | np.integer) else size
    whole = np.shape(sides) == (2,) and all(isinstance(side, int | np.integer) for side in sides)
    if not whole or not all(1 <= side <= _LARGEST for side in sides):
        raise InputError(
            f"size is {size!r:.99}; it must be a number of pixels, or height and width, at most {_LARGEST}"
        )
    return [(int(sides[0]), int(sides[1]))] * len(maps)


def _boxes(name: str, values: Any, frame: tuple[int, int]) -> Int[np.ndarray, "n 4"] | None:
    """The boxes of an image, after all checks; None where that was given."""
    if values is None:
        return None
    side = np.array(frame[::-1])
    must = f"must be corners x0, y0, x1, y1 in whole pixels, the last ones included, of a frame of {_pixels(frame)}"
    boxes = _array(values)
    boxes = boxes[None] if boxes.shape == (4,) else boxes
    if boxes.size == 0 and boxes.dtype != object and boxes.shape[-1] in (0, 4):
        raise InputError(f"{name} is empty; an image without an object has None, and counts for classification alone")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        raise InputError(f"{name} is no list of boxes, which {must}")
    first, last = boxes[:, :2], boxes[:, 2:]
    wrong = ~((first >= 0) & (first < side) & (last >= first) & (last <= side)).all(axis=1)
    # Integers of at most 1 may be a box, floating-point ones are shares of the image.
    wrong |= (boxes != np.floor(boxes)).any(axis=1) | ((boxes.dtype.kind == "f") & (boxes <= 1).all(axis=1))
    for box in boxes[wrong]:
        numbers = ", ".join(f"{number:g}" for number in box)
        raise InputError(f"{name} holds [{numbers}]; boxes {must}: maps are [n, height, width], size= is another frame")
    return boxes.astype(np.int64)


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"


def _array(values: Any) -> np.ndarray:
    """An array, of objects where lengths differ."""
    try:
        return np.asarray(values)
    except ValueError:
        return np.asarray([None] * len(values))


def _numbers(name: str, values: Any, kinds: str, axes: tuple[int, ...], what: str) -> np.ndarray:
    found = _array(values)
    if found.dtype == object:
        raise InputError(f"{name} has entries of several lengths; give {what}")
    if found.dtype.kind not in kinds or found.ndim not in axes or 0 in found.shape:
        raise InputError(f"{name} is {found.dtype} of shape {found.shape}; give {what}")
    return found


def _ranks(
    known: dict[str, list[Any]], labels: Int[np.ndarray, " n"] | None
) -> tuple[Int[np.ndarray, " n"] | None, bool]:
    """How many classes are predicted before each image's true one, and whether that settles the first five."""
    named = known.keys() & {"logits", "predictions"}
    if not named:
        return None, True
    if labels is None or len(named) == 2:
        raise InputError(f"{' and '.join(sorted(named))}: give labels with either logits or predictions")
    if "predictions" in named:
        lists = _numbers("predictions", known["predictions"], "iu", (1, 2), "classes [n], or [n, k], best first")
        lists = lists.reshape(len(labels), -1)
        ordered = np.sort(lists, axis=1)
        for i in np.flatnonzero((ordered[:, 0] < 0) | (np.diff(ordered, axis=1) == 0).any(axis=1)).tolist():
            raise InputError(f"predictions[{i}] is {lists[i].tolist()}; it must hold classes from 0, each once")
        hit, k = lists == labels[:, None], lists.shape[1]
        return np.where(hit.any(axis=1), hit.argmax(axis=1), max(k, 5)), bool(hit.any(axis=1).all() or k >= 5)
    scores = _numbers("logits", known["logits"], "iuf", (2,), "numbers [n, classes]")
    classes = scores.shape[1]
    if classes == 1:
        raise InputError("logits are of one class, whose top-1 is always 100; leave them out, or give two")
    for i in np.flatnonzero(np.isnan(scores).any(axis=1)).tolist():
        raise InputError(f"logits[{i}] holds NaN")
    for i in np.flatnonzero(labels >= classes).tolist():
        raise InputError(f"labels[{i}] is {labels[i]}; logits are of {classes} classes")
    return class_ranks(scores, labels, [""] * len(labels)), True
