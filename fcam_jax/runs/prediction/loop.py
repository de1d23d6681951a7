"""The loop of a prediction: images are read and outputs are written in threads, while the device works on a batch.

In: images, a predictor, an output folder. Out: files and a record for each image, and a list of what cannot be read.
"""

import dataclasses
import functools
import hashlib
import io
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from fcam_jax.data.images import Window, read_image
from fcam_jax.data.transforms import resize
from fcam_jax.errors import OF_THE_DISK, InputError
from fcam_jax.evaluation.stream import in_threads
from fcam_jax.models.import_weights import weights_digest
from fcam_jax.runs.class_names import ClassNames, class_title
from fcam_jax.runs.prediction.doubts import Doubt, doubt, tell
from fcam_jax.runs.prediction.image_files import ImageFile
from fcam_jax.runs.prediction.journal import MAPS, OVERLAYS, Journal, origin_of
from fcam_jax.runs.prediction.network import Network
from fcam_jax.runs.prediction.overlay import draw_overlay
from fcam_jax.runs.prediction.predictor import PREDICTED, Predicted, Predictor
from fcam_jax.runs.prediction.restored import Threshold, restored
from fcam_jax.runs.report.drawing import enlarge
from fcam_jax.runtime.files import replace_file
from fcam_jax.runtime.progress import progress_bar
from fcam_jax.runtime.text import printable

# Each may hold a large image and its map at full size.
THREADS = min(4, os.cpu_count() or 1)
LEAST_SIDE = 320  # to which small images are enlarged in pictures


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What is written of an image."""

    title: str  # what the maps are called
    threshold: Threshold  # cuts the maps
    class_names: ClassNames
    top: int  # number of classes in a record
    full_size: bool  # maps have the image's size; otherwise they are no larger than pictures
    max_side: int  # longest side of an image in a picture
    label: int = PREDICTED  # the class of all maps


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read, or whose outputs cannot be written, and why."""

    file: ImageFile
    reason: str


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """An image, without its own pixels, which may be many."""

    file: ImageFile
    origin: dict[str, Any]  # what the file was when it was read
    size: tuple[int, int]  # height and width
    pixels: UInt8[np.ndarray, "side side 3"]  # what the network sees
    shown: UInt8[np.ndarray, "y x 3"]  # what a picture shows


def predict_into(
    out: pathlib.Path,
    files: Sequence[ImageFile],
    network: Network,
    outputs: Outputs,
    batch_size: int = 8,
    overwrite: bool = False,
) -> tuple[int, list[Unreadable]]:
    """Predict images into a folder, but for those that it holds already.

    Args:
      out: the folder; made where it does not exist.
      files: the images.
      network: what predicts.
      outputs: what is written.
      batch_size: images at a time.
      overwrite: remove the predictions that are there first.

    Returns:
      The number of images that were predicted, and those that cannot be read.

    Raises:
      InputError: the folder holds predictions by other settings or cannot be written to, or as for `predict`.
    """
    settings = {
        "weights": weights_digest(network.model)[:12],
        **network.settings,
        "label": "predicted" if outputs.label == PREDICTED else outputs.label,
        "threshold": dataclasses.asdict(outputs.threshold),
        "class_names": hashlib.sha256(repr(list(outputs.class_names)).encode()).hexdigest()[:12],
        **{name: getattr(outputs, name) for name in ("top", "full_size", "max_side")},
    }
    journal = Journal(out, settings, overwrite)
    try:
        missing = [file for file in files if not journal.is_done(file)]
        predictor = network.predictor(min(batch_size, max(len(missing), 1)))
        unreadable = predict(missing, predictor, network.size, outputs, out, journal, network.window)
    finally:
        journal.close()
    return len(missing) - len(unreadable), unreadable


def predict(
    files: Sequence[ImageFile],
    predictor: Predictor,
    size: int,
    outputs: Outputs,
    out: pathlib.Path,
    journal: Journal,
    window: Window = (),
) -> list[Unreadable]:
    """Predict images.

    Args:
      files: the images.
      predictor: the network.
      size: side of the network's images.
      outputs: what is written.
      out: the output folder.
      journal: its records.
      window: as for `decode_image`.

    Returns:
      The images that cannot be read.

    Raises:
      InputError: a file cannot be written, or the network yields what is no number.
    """
    unreadable: list[Unreadable] = []
    doubts: list[Doubt] = []

    def readable(loaded: Iterator[_Loaded | Unreadable]) -> Iterator[_Loaded]:
        for image in loaded:
            if isinstance(image, Unreadable):
                unreadable.append(image)
                bar.update()
            else:
                yield image

    def tasks() -> Iterator[list[Callable[[], tuple[dict[str, Any], Doubt] | Unreadable]]]:
        load = functools.partial(_load, size, outputs.max_side, window)
        groups = ([functools.partial(load, file) for file in group] for group in _batched(iter(files), batch_size))
        for batch in _batched(readable(in_threads(groups, THREADS)), batch_size):
            found = predictor(np.stack([image.pixels for image in batch]), np.full(len(batch), outputs.label))
            yield [functools.partial(_save, out, outputs, image, found, i) for i, image in enumerate(batch)]

    batch_size = predictor.batch_size
    with progress_bar("predict", len(files), "image") as bar:
        try:
            for saved in in_threads(tasks(), THREADS):
                if isinstance(saved, Unreadable):
                    unreadable.append(saved)
                else:
                    journal.append(saved[0])
                    doubts.append(saved[1])
                bar.update()
        except OSError as error:
            raise InputError(f"--out: cannot be written ({error})") from error
    tell(doubts)
    return unreadable


def _batched(items: Iterator[Any], count: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(items, count)):
        yield batch


def _load(size: int, max_side: int, window: Window, file: ImageFile) -> _Loaded | Unreadable:
    try:
        origin = origin_of(file)
        image = read_image(file.path, upright=True, window=window)
    except OSError as error:
        return Unreadable(file, f"{file.path}: {error.strerror}")
    except InputError as error:
        return Unreadable(file, str(error))
    height, width = image.shape[:2]
    side = min(max(height, width, LEAST_SIDE), max_side)
    return _Loaded(file, origin, (height, width), resize(image, size), enlarge(image, side))


def _save(
    out: pathlib.Path, outputs: Outputs, image: _Loaded, batch: Predicted, i: int
) -> tuple[dict[str, Any], Doubt] | Unreadable:
    """Write the files of an image of a batch; returns its record, and what is doubtful about it."""
    try:
        found = restored(batch, i, image.size, outputs.threshold, None if outputs.full_size else outputs.max_side)
    except InputError as error:
        raise InputError(f"{printable(str(image.file.path))}: {error}") from None
    label, boxes, threshold = found.label, found.boxes.tolist(), outputs.threshold
    caption = (
        f"{class_title(outputs.class_names, label)}  {found.probabilities[label]:.1%}",
        f"{outputs.title}, threshold {threshold.value:.3g} ({threshold.source})",
    )
    overlay = draw_overlay(image.shown, batch.maps[i], found.boxes[0] if boxes else None, image.size, caption)
    paths = {
        "map": f"{MAPS}/{image.file.output}.npy",
        "levels": f"{MAPS}/{image.file.output}.png",
        "overlay": f"{OVERLAYS}/{image.file.output}.png",
    }
    pictures = {"map": _npy(found.score_map), "levels": _png(found.levels), "overlay": _png(overlay[..., ::-1])}
    try:
        for name, data in pictures.items():
            replace_file(out / paths[name], data, sync=False)
    except OSError as error:
        if error.errno in OF_THE_DISK:
            raise
        return Unreadable(image.file, f"{image.file.path}: its outputs cannot be written: {error.strerror}")

    def entry(label: int) -> dict[str, Any]:
        return {
            "label": label,
            "class": outputs.class_names[label],
            "probability": float(found.probabilities[label]),
        }

    record = {
        "image": image.file.name,
        "width": image.size[1],
        "height": image.size[0],
        **entry(label),
        "threshold": threshold.value,
        "threshold_source": threshold.source,
        "level": found.level,
        "box": boxes[0] if boxes else None,
        "boxes": boxes,
        "top": list(map(entry, np.argsort(-found.logits, kind="stable")[: outputs.top].tolist())),
        **paths,
        **image.origin,
    }
    return record, doubt(str(image.file.path), found, image.size)


def _npy(score_map: Float[np.ndarray, "h w"]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, score_map.astype(np.float16))
    return buffer.getvalue()


def _png(pixels: UInt8[np.ndarray, "..."]) -> bytes:
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    assert done
    return data.tobytes()
