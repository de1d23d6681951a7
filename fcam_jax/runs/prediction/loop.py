"""The loop of a prediction: images are read and outputs are written in threads, while the device works on a batch.

In: images, a network, an output folder. Out: files and a record for each image, and a list of what cannot be read.
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

import numpy as np
from jaxtyping import UInt8

from fcam_jax.data.images import read_image
from fcam_jax.data.transforms import resize
from fcam_jax.errors import OF_THE_DISK, InputError
from fcam_jax.evaluation.stream import in_threads
from fcam_jax.models.import_weights import weights_digest
from fcam_jax.runs.class_names import class_title
from fcam_jax.runs.prediction.doubts import Doubt, doubt, tell
from fcam_jax.runs.prediction.images import ImageFile
from fcam_jax.runs.prediction.journal import MAPS, OVERLAYS, Journal, origin_of, record_of
from fcam_jax.runs.prediction.network import PREDICTED, Network
from fcam_jax.runs.prediction.pictures import draw_overlay
from fcam_jax.runs.prediction.restored import Predicted, restored
from fcam_jax.runs.report.drawing import Size, encoded, enlarge
from fcam_jax.runtime.files import replace_file
from fcam_jax.runtime.progress import progress_bar
from fcam_jax.runtime.text import printable

# Each may hold a large image and its map at full size.
THREADS = min(4, os.cpu_count() or 1)
LEAST_SIDE = 320  # to which small images are enlarged in pictures


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What is written of an image."""

    top: int  # number of classes in a record
    full_size: bool  # maps have the image's size; otherwise they are no larger than pictures
    max_side: int  # longest side of an image in a picture
    label: int = PREDICTED  # the class of all maps


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """An image, without its own pixels, which may be many."""

    file: ImageFile
    origin: dict[str, Any]  # what the file was when it was read
    size: Size
    pixels: UInt8[np.ndarray, "side side 3"]  # what the network sees
    shown: UInt8[np.ndarray, "y x 3"]  # what a picture shows


Failure = str  # why an image cannot be read, or its outputs cannot be written, beginning with its path


def predict_into(
    out: pathlib.Path,
    files: Sequence[ImageFile],
    network: Network,
    outputs: Outputs,
    batch_size: int = 8,
    overwrite: bool = False,
) -> tuple[int, list[Failure]]:
    """Predict images into a folder, made where it does not exist, but for those that it holds already.

    The network's threshold cuts the maps, and its names are those of the classes. `overwrite` removes the predictions
    that are there first. Returns the number of images that were predicted, and a line for each that cannot be read.

    Raises:
      InputError: the folder holds predictions by other settings or cannot be written to, or the network yields what is
        no number.
    """
    settings = {
        "weights": weights_digest(network.model)[:12],
        **network.settings,
        **dataclasses.asdict(outputs),
        "label": "predicted" if outputs.label == PREDICTED else outputs.label,
        "threshold": dataclasses.asdict(network.threshold),
        "class_names": hashlib.sha256(repr(list(network.class_names)).encode()).hexdigest()[:12],
    }
    journal = Journal(out, settings, overwrite)
    try:
        missing = [file for file in files if not journal.is_done(file)]
        failed = _predict(_Job(out, network, outputs), missing, min(batch_size, max(len(missing), 1)), journal)
    finally:
        journal.close()
    return len(missing) - len(failed), failed


def _predict(job: "_Job", files: Sequence[ImageFile], batch_size: int, journal: Journal) -> list[Failure]:
    predictor = job.network.predictor(batch_size)
    failed: list[Failure] = []
    doubts: list[Doubt] = []

    def kept(results: Iterator[Any]) -> Iterator[Any]:
        for one in results:
            if isinstance(one, Failure):
                failed.append(one)
                bar.update()
            else:
                yield one

    def tasks() -> Iterator[list[Callable[[], tuple[dict[str, Any], Doubt] | Failure]]]:
        loading = ([functools.partial(job.load, file) for file in some] for some in _batched(iter(files), size))
        for batch in _batched(kept(in_threads(loading, THREADS)), size):
            labels = np.full(len(batch), job.outputs.label)
            found = predictor(np.stack([image.pixels for image in batch]), labels)
            yield [functools.partial(job.save, image, found, i) for i, image in enumerate(batch)]

    size = predictor.batch_size
    with progress_bar("predict", len(files), "image") as bar:
        try:
            for record, doubtful in kept(in_threads(tasks(), THREADS)):
                journal.append(record)
                doubts.append(doubtful)
                bar.update()
        except OSError as error:
            raise InputError(f"--out: cannot be written ({error})") from error
    tell(doubts)
    return failed


def _batched(items: Iterator[Any], count: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(items, count)):
        yield batch


@dataclasses.dataclass(frozen=True)
class _Job:
    """What threads do of a prediction."""

    out: pathlib.Path
    network: Network
    outputs: Outputs

    def load(self, file: ImageFile) -> _Loaded | Failure:
        """Read an image, and bring it to the sizes of the network and of pictures."""
        try:
            origin = origin_of(file)
            image = read_image(file.path, upright=True, window=self.network.window)
        except OSError as error:
            return f"{file.path}: {error.strerror}"
        except InputError as error:
            return str(error)
        height, width = image.shape[:2]
        side = min(max(height, width, LEAST_SIDE), self.outputs.max_side)
        return _Loaded(file, origin, (height, width), resize(image, self.network.size), enlarge(image, side))

    def save(self, image: _Loaded, batch: Predicted, i: int) -> tuple[dict[str, Any], Doubt] | Failure:
        """Write the files of an image of a batch; returns its record, and what is doubtful about it."""
        network, outputs = self.network, self.outputs
        threshold, name = network.threshold, image.file.output
        try:
            found = restored(batch, i, image.size, threshold, None if outputs.full_size else outputs.max_side)
        except InputError as error:
            raise InputError(f"{printable(str(image.file.path))}: {error}") from None
        box = found.boxes[0] if len(found.boxes) else None
        caption = (
            f"{class_title(network.class_names, found.label)}  {found.probabilities[found.label]:.1%}",
            f"{network.title}, threshold {threshold.value:.3g} ({threshold.source})",
        )
        array = io.BytesIO()
        np.save(array, found.score_map.astype(np.float16))
        files = {
            "map": (f"{MAPS}/{name}.npy", array.getvalue()),
            "levels": (f"{MAPS}/{name}.png", encoded(found.levels)),
            "overlay": (
                f"{OVERLAYS}/{name}.png",
                encoded(draw_overlay(image.shown, batch.maps[i], box, image.size, caption)),
            ),
        }
        try:
            for path, data in files.values():
                replace_file(self.out / path, data, sync=False)
        except OSError as error:
            if error.errno in OF_THE_DISK:
                raise
            return f"{image.file.path}: its outputs cannot be written: {error.strerror}"
        record = {
            **record_of(image.file.name, image.size, found, threshold, network.class_names, outputs.top),
            **{key: path for key, (path, _) in files.items()},
            **image.origin,
        }
        return record, doubt(str(image.file.path), found, image.size)
