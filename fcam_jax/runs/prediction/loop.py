"""The loop of a prediction: images are read and outputs are written in threads, while the device works on a batch.

In: images, a predictor, an output folder. Out: files and a record for each image, and a list of what cannot be read.
"""

import dataclasses
import functools
import io
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from fcam_jax.data.images import read_image
from fcam_jax.data.transforms import resize
from fcam_jax.errors import InputError
from fcam_jax.evaluation.threads import in_threads
from fcam_jax.runs.class_names import ClassNames
from fcam_jax.runs.prediction.image_files import ImageFile
from fcam_jax.runs.prediction.journal import MAPS, OVERLAYS, Journal, origin_of, write
from fcam_jax.runs.prediction.overlay import draw_overlay
from fcam_jax.runs.prediction.predictor import Predicted, Predictor
from fcam_jax.runs.prediction.restored import Threshold, bounded, boxes_above, rescale, restore, to_levels
from fcam_jax.runs.report.drawing import enlarge
from fcam_jax.runtime.progress import progress_bar
from fcam_jax.runtime.text import printable

# Each may hold a large image and its map at full size.
THREADS = min(4, os.cpu_count() or 1)
_LEAST_SIDE = 320  # to which small images are enlarged in pictures


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What is written of an image.

    Attributes:
      title: what the maps are called.
      threshold: cuts the maps.
      class_names: names of the classes.
      top: number of classes in a record.
      full_size: maps have the image's size; otherwise they are no larger than pictures.
      max_side: longest side of an image in a picture.
    """

    title: str
    threshold: Threshold
    class_names: ClassNames
    top: int
    full_size: bool
    max_side: int


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """An image that cannot be used, and why."""

    file: ImageFile
    reason: str


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """An image, without its own pixels, which may be many.

    Attributes:
      file: the image's file.
      origin: what it was when it was read.
      size: height and width.
      pixels: what the network sees.
      shown: what a picture shows.
    """

    file: ImageFile
    origin: dict[str, Any]
    size: tuple[int, int]
    pixels: UInt8[np.ndarray, "side side 3"]
    shown: UInt8[np.ndarray, "y x 3"]


def predict(
    files: Sequence[ImageFile], predictor: Predictor, size: int, outputs: Outputs, out: pathlib.Path, journal: Journal
) -> list[Unreadable]:
    """Predict images.

    Args:
      files: the images.
      predictor: the network.
      size: side of the network's images.
      outputs: what is written.
      out: the output folder.
      journal: its records.

    Returns:
      The images that cannot be read.

    Raises:
      InputError: a file cannot be written, or the network yields what is no number.
    """
    unreadable: list[Unreadable] = []

    def readable(loaded: Iterator[_Loaded | Unreadable]) -> Iterator[_Loaded]:
        for image in loaded:
            if isinstance(image, Unreadable):
                unreadable.append(image)
                bar.update()
            else:
                yield image

    def tasks() -> Iterator[list[Callable[[], dict[str, Any]]]]:
        load = functools.partial(_load, size, outputs.max_side)
        groups = ([functools.partial(load, file) for file in group] for group in _batched(iter(files), batch_size))
        for batch in _batched(readable(in_threads(groups, THREADS)), batch_size):
            found = predictor(np.stack([image.pixels for image in batch]))
            yield [
                functools.partial(_save, out, outputs, image, *_result(found, i, image))
                for i, image in enumerate(batch)
            ]

    batch_size = predictor.batch_size
    with progress_bar("predict", len(files), "image") as bar:
        try:
            for record in in_threads(tasks(), THREADS):
                journal.append(record)
                bar.update()
        except OSError as error:
            raise InputError(f"--out: cannot be written ({error})") from error
    return unreadable


def _batched(items: Iterator[Any], count: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(items, count)):
        yield batch


def _load(size: int, max_side: int, file: ImageFile) -> _Loaded | Unreadable:
    try:
        origin = origin_of(file)
        image = read_image(file.path, upright=True)
    except OSError as error:
        return Unreadable(file, f"{file.path}: {error.strerror}")
    except InputError as error:
        return Unreadable(file, str(error))
    height, width = image.shape[:2]
    side = min(max(height, width, _LEAST_SIDE), max_side)
    return _Loaded(file, origin, (height, width), resize(image, size), enlarge(image, side))


def _result(found: Predicted, i: int, image: _Loaded) -> tuple[np.ndarray, np.ndarray, int]:
    """Map, class scores and label of one image of a batch."""
    score_map, logits = found.maps[i], found.logits[i]
    if not (np.isfinite(score_map).all() and np.isfinite(logits).all()):
        raise InputError(
            f"{printable(str(image.file.path))}: the network's map or class scores hold NaN or infinity; its weights "
            "are damaged, or training diverged"
        )
    return score_map, logits, int(found.labels[i])


def _save(
    out: pathlib.Path,
    outputs: Outputs,
    image: _Loaded,
    score_map: Float[np.ndarray, "a b"],
    logits: Float[np.ndarray, " k"],
    label: int,
) -> dict[str, Any]:
    """Write the files of an image; returns its record."""
    frame = image.size if outputs.full_size else bounded(image.size, outputs.max_side)
    restored = restore(score_map, frame)
    levels = to_levels(restored)
    level = outputs.threshold.level(levels)
    boxes = rescale(boxes_above(levels, level), frame, image.size)
    probabilities = _softmax(logits)
    name = outputs.class_names[label]
    caption = (
        f"{name or f'class {label}'}  {probabilities[label]:.1%}",
        f"{outputs.title}, threshold {outputs.threshold.value:.3g} ({outputs.threshold.source})",
    )
    overlay = draw_overlay(image.shown, score_map, boxes[0] if len(boxes) else None, image.size, caption)
    paths = {
        "map": f"{MAPS}/{image.file.name}.npy",
        "levels": f"{MAPS}/{image.file.name}.png",
        "overlay": f"{OVERLAYS}/{image.file.name}.png",
    }
    write(out / paths["map"], _npy(restored))
    write(out / paths["levels"], _png(levels))
    write(out / paths["overlay"], _png(overlay[..., ::-1]))
    return {
        "image": image.file.name,
        "width": image.size[1],
        "height": image.size[0],
        "label": label,
        "class": name,
        "probability": float(probabilities[label]),
        "threshold": outputs.threshold.value,
        "threshold_source": outputs.threshold.source,
        "level": level,
        "box": boxes[0].tolist() if len(boxes) else None,
        "boxes": boxes.tolist(),
        "top": [
            {"label": i, "class": outputs.class_names[i], "probability": float(probabilities[i])}
            for i in np.argsort(-logits, kind="stable")[: outputs.top].tolist()
        ],
        **paths,
        **image.origin,
    }


def _softmax(logits: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


def _npy(score_map: Float[np.ndarray, "h w"]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, score_map.astype(np.float16))
    return buffer.getvalue()


def _png(pixels: UInt8[np.ndarray, "..."]) -> memoryview:
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    assert done
    return data.data
