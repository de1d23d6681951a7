"""CAMs of all training images on disk, computed once: for CAMs that are too slow to be computed at every step.

A file holds the maps of all images of a split, `<key>.npy`, and one beside it what they are of, `<key>.json`; the key
is a digest of just that. Maps of other weights, images or settings thus have another key, a file that was not finished
is gone on with, and one whose checksum is wrong is computed anew.
"""

import dataclasses
import hashlib
import json
import logging
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from fcam_jax.errors import InputError
from fcam_jax.methods.contract import Method
from fcam_jax.models.import_weights import weights_digest
from fcam_jax.runtime.files import file_digest, write_record
from fcam_jax.runtime.progress import counted
from fcam_jax.runtime.records import read_record
from fcam_jax.training.placed import Placed, data_mesh
from fcam_jax.types import Batch

logger = logging.getLogger(__name__)

Maps = Float[np.ndarray, "n h w"]
Compute = Callable[[Int[np.ndarray, " n"]], Iterable[tuple[Int[np.ndarray, " b"], Float[np.ndarray, "b h w"]]]]


@dataclasses.dataclass(frozen=True)
class WholeCams:
    """How CAMs of whole training images are come by.

    Attributes:
      batches: batches of the images at some positions of the split.
      count: number of images of the split.
      batch_size: of these batches.
      of: what the maps depend on besides the classifier's weights.
      folder: of the cache; "" stands for one that is given by whoever loads.
    """

    batches: Callable[[Sequence[int]], Iterator[Batch]]
    count: int
    batch_size: int
    of: dict[str, Any]
    folder: str

    def load(
        self, model: Any, method: Method, whole_maps: Callable[[Any, Batch], jax.Array], folder: pathlib.Path
    ) -> Maps:
        """The maps, from the cache or computed into it.

        Args:
          model: its `classifier` is what they are CAMs of.
          method: what is trained of the model.
          whole_maps: yields the maps of a batch.
          folder: of the cache, where none was configured.

        Raises:
          InputError: as `check` and `cached_cams`.
        """
        self.check(folder)
        placed = Placed.split(model, method, data_mesh(self.batch_size)).replicated()
        maps_of = placed.forward(whole_maps)

        def compute(positions: Int[np.ndarray, " n"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            count = -(-len(positions) // self.batch_size)
            for batch in counted(self.batches(positions.tolist()), "CAMs of the training images", count, "batch"):
                real = np.asarray(batch.valid) > 0
                yield np.asarray(batch.index)[real], np.asarray(maps_of(placed, batch))[real]

        facts = self.of | {"weights": weights_digest(model.classifier)}
        return cached_cams(self._in(folder), facts, self.count, compute)

    def check(self, folder: pathlib.Path) -> None:
        """Raise an `InputError` where `load` could not keep the maps; makes the folder."""
        if jax.process_count() > 1:
            raise InputError("config.cam.cache works on one host: leave it off")
        try:
            self._in(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._in(folder)):
                pass
        except OSError as error:
            raise InputError(f"the CAM cache in {self._in(folder)} cannot be used: {error.strerror}") from error

    def _in(self, folder: pathlib.Path) -> pathlib.Path:
        return pathlib.Path(self.folder) if self.folder else folder


def cached_cams(folder: pathlib.Path, facts: Mapping[str, Any], count: int, compute: Compute) -> Maps:
    """The CAMs of a split's images, from the cache or computed into it.

    Args:
      folder: of the cache; runs may share it.
      facts: everything that the maps depend on, as JSON data.
      count: number of images.
      compute: yields maps in [0, 1], with their positions in the split, for the positions it is called with.

    Returns:
      The maps, float16, by position; read from the file when they are used.

    Raises:
      InputError: the folder cannot be used, or a map holds NaN.
    """
    text = json.dumps(facts, indent=2, sort_keys=True)
    key = hashlib.sha256(f"{count} {text}".encode()).hexdigest()[:16]
    path, record = folder / f"{key}.npy", folder / f"{key}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file; remove it")
        if record.is_file() and not _is_sound(path, record):
            logger.warning("%s is damaged: its CAMs are computed anew", path)
            path.unlink(missing_ok=True)
            record.unlink()
        if not record.is_file():
            _fill(path, count, compute)
            write_record(record, {"sha256": file_digest(path), "count": count, "of": facts})
        return np.load(path, mmap_mode="r")
    except OSError as error:
        raise InputError(f"the CAM cache in {folder} cannot be used: {error.strerror} ({error.filename})") from error


def _fill(path: pathlib.Path, count: int, compute: Compute) -> None:
    """Compute what the file lacks. A map that is not there yet is NaN."""
    maps = _unfinished(path, count)
    missing = np.arange(count) if maps is None else np.flatnonzero(np.isnan(maps).any(axis=(1, 2)))
    if maps is not None and len(missing) < count:
        logger.info("%s: %d of %d CAMs are there already", path, count - len(missing), count)
    for positions, found in compute(missing):
        if np.isnan(found).any():
            bad = int(positions[np.isnan(found).any(axis=(1, 2)).argmax()])
            raise InputError(f"the CAM of training image {bad} holds infinity: the classifier's weights are unusable")
        if maps is None:
            maps = np.lib.format.open_memmap(path, "w+", np.float16, (count, *found.shape[1:]))
            maps[:] = np.nan
        maps[positions] = found
    if maps is not None:
        maps.flush()


def _unfinished(path: pathlib.Path, count: int) -> np.memmap | None:
    """The maps of a file that was begun; None where there is none that can be gone on with."""
    try:
        maps = np.load(path, mmap_mode="r+")
    except (OSError, ValueError, EOFError):  # not there, or a header that a crash cut short
        return None
    usable = isinstance(maps, np.memmap) and maps.ndim == 3 and len(maps) == count and maps.dtype == np.float16
    return maps if usable else None


def _is_sound(path: pathlib.Path, record: pathlib.Path) -> bool:
    try:
        return bool(read_record(record, "")["sha256"] == file_digest(path))
    except (OSError, InputError, KeyError):
        return False
