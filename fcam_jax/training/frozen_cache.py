"""What a frozen classifier makes of all training images, computed once and kept on disk: CAMs of the whole images, or
all that stage 2 takes of a few crops of each.

A file holds a row of bytes for every image or crop, `<key>.rows`, and one beside it what the rows are of, `<key>.json`;
the key is a digest of just that. Rows of other weights, images or settings thus have another key, a file that was not
finished is gone on with, and one whose checksum is wrong is computed anew.
"""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int

from fcam_jax.data.pipeline import Known
from fcam_jax.errors import InputError
from fcam_jax.methods.contract import Method
from fcam_jax.models.import_weights import weights_digest
from fcam_jax.runtime.files import file_digest, write_record
from fcam_jax.runtime.progress import counted
from fcam_jax.runtime.records import read_record
from fcam_jax.training.placed import Placed, data_mesh
from fcam_jax.types import Batch

logger = logging.getLogger(__name__)

Positions = Int[np.ndarray, " n"]
# From positions of rows to some of them at a time: their positions, and the arrays with a row for each.
Compute = Callable[[Positions], Iterable[tuple[Positions, Sequence[np.ndarray]]]]

_DONE = "done"  # field of a row: whether the others are there


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a file, each of some arrays; they are read when they are taken."""

    path: pathlib.Path
    rows: np.memmap

    def __call__(self, positions: Positions) -> list[np.ndarray]:
        """The arrays of the rows at some positions, stacked.

        Raises InputError: one is not there, of an image that was left out when they were computed.
        """
        if not self.rows[_DONE][positions].all():
            raise InputError(f"{self.path} lacks images that could not be used when it was made; remove it")
        fields = [name for name in self.rows.dtype.names or () if name != _DONE]
        return [np.asarray(self.rows[name][positions]) for name in fields]


@dataclasses.dataclass(frozen=True)
class FrozenCache:
    """How what is kept of the training images is come by.

    Attributes:
      key: of the configuration, that has it kept.
      batches: batches of the rows at some positions, with the positions of those that are no padding.
      count: number of rows.
      batch_size: of these batches.
      side: of their images, in pixels.
      of: what the rows depend on besides the classifier's weights.
      folder: of the cache; "" stands for one that is given by whoever loads.
    """

    key: str
    batches: Callable[[Sequence[int]], Iterator[tuple[Positions, Batch]]]
    count: int
    batch_size: int
    side: int
    of: dict[str, Any]
    folder: str

    def load(self, model: Any, method: Method, what: Callable[[Any, Batch], Any], folder: pathlib.Path) -> Known:
        """What gives the trees of some rows, stacked, from the cache or computed into it.

        Args:
          model: its `classifier` is what they are of.
          method: what is trained of the model.
          what: yields a tree of arrays from the model and a batch, with a row for each image.
          folder: of the cache, where none was configured.

        Raises:
          InputError: as `check` and `cached`; a row holds NaN.
        """
        self.check(folder)
        placed = Placed.split(model, method, data_mesh(self.batch_size)).replicated()
        computed = placed.forward(what)

        def compute(positions: Positions) -> Iterator[tuple[Positions, Sequence[np.ndarray]]]:
            count = -(-len(positions) // self.batch_size)
            for some, batch in counted(self.batches(positions.tolist()), f"{self.key}: images", count, "batch"):
                leaves = [np.asarray(leaf)[: len(some)] for leaf in jax.tree.leaves(computed(placed, batch))]
                for leaf in leaves:
                    if (bad := np.isnan(leaf).reshape(len(some), -1).any(axis=1)).any():
                        image = int(batch.index[bad.argmax()])
                        why = f"the maps of training image {image} hold NaN: the classifier's weights are unusable"
                        raise InputError(f"config.{self.key}: {why}")
                yield some, leaves

        structures = []

        def leaves_of(params: Any, rest: Any, batch: Batch) -> list[jax.Array]:
            leaves, structure = jax.tree.flatten(what(nnx.merge(placed.structure, params, rest), batch))
            structures.append(structure)
            return leaves

        like = jax.eval_shape(leaves_of, placed.params, placed.rest, self._batch())
        facts = self.of | {"weights": weights_digest(model.classifier)}
        rows = cached(self._in(folder), facts, self.count, like, compute, self.key)
        return lambda positions: jax.tree.unflatten(structures[0], rows(positions))

    def check(self, folder: pathlib.Path) -> None:
        """Raise an `InputError` where `load` could not keep the rows; makes the folder."""
        if jax.process_count() > 1:
            raise InputError(f"config.{self.key} works on one host: leave it off")
        try:
            self._in(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._in(folder)):
                pass
        except OSError as error:
            raise InputError(f"config.{self.key}: {self._in(folder)} cannot be used: {error.strerror}") from error

    def _batch(self) -> Any:
        """The shapes of a batch."""
        images = np.empty((self.batch_size, self.side, self.side, 3), np.uint8)
        whole = np.empty(self.batch_size, np.int32)
        return Batch(images, labels=whole, index=whole, valid=whole.astype(np.float32))

    def _in(self, folder: pathlib.Path) -> pathlib.Path:
        return pathlib.Path(self.folder) if self.folder else folder


def half(what: Callable[[Any, Batch], jax.Array]) -> Callable[[Any, Batch], jax.Array]:
    """The same in float16, which is enough for maps in [0, 1]."""
    return lambda model, batch: what(model, batch).astype(jnp.float16)


def cached(
    folder: pathlib.Path,
    facts: Mapping[str, Any],
    count: int,
    like: Sequence[jax.ShapeDtypeStruct],
    compute: Compute,
    key: str,
) -> Rows:
    """The rows of a file, from the cache or computed into it.

    Args:
      folder: of the cache; runs may share it.
      facts: everything that the rows depend on, as JSON data.
      count: number of rows.
      like: the arrays that `compute` yields; their first axis is the batch's.
      compute: yields rows with their positions, for the positions it is called with.
      key: of the configuration, for messages.

    Raises:
      InputError: the folder cannot be used, or the disk has no room for the file.
    """
    row = np.dtype([*((f"{n}", one.dtype, one.shape[1:]) for n, one in enumerate(like)), (_DONE, "u1")], align=True)
    text = json.dumps(facts, indent=2, sort_keys=True)
    name = hashlib.sha256(f"{count} {row} {text}".encode()).hexdigest()[:16]
    path, record = folder / f"{name}.rows", folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file; remove it")
        if record.is_file() and not _is_sound(path, record):
            logger.warning("%s is damaged: it is computed anew", path)
            path.unlink(missing_ok=True)
            record.unlink()
        if not record.is_file():
            _reserve(path, count, row.itemsize, key)
            _fill(np.memmap(path, row, "r+", shape=(count,)), path, compute)
            write_record(record, {"sha256": file_digest(path), "count": count, "row": str(row), "of": facts})
        return Rows(path, np.memmap(path, row, "r", shape=(count,)))
    except OSError as error:
        raise InputError(f"config.{key}: {folder} cannot be used: {error.strerror} ({error.filename})") from error


def _reserve(path: pathlib.Path, count: int, size: int, key: str) -> None:
    """A file of zeros of that size, unless there is one already; the disk has the room for it then."""
    whole = count * size
    begun = path.is_file() and path.stat().st_size == whole
    free = shutil.disk_usage(path.parent).free + (whole if begun else 0)
    logger.info("%s: %d rows of %.2f MiB, %.2f GiB, in %s", key, count, size / 2**20, whole / 2**30, path)
    if whole > free:
        raise InputError(
            f"config.{key} takes {whole / 2**30:.1f} GiB, and {path.parent} has {free / 2**30:.1f} GiB free; leave it "
            "off, or set cam.cache_dir to a folder that has room"
        )
    if not begun:
        with path.open("wb") as file:  # written through a map, a full disk would kill the process
            os.posix_fallocate(file.fileno(), 0, whole)


def _fill(rows: np.memmap, path: pathlib.Path, compute: Compute) -> None:
    """Compute what the file lacks."""
    missing = np.flatnonzero(rows[_DONE] == 0)
    if len(missing) < len(rows):
        logger.info("%s: %d of %d rows are there already", path, len(rows) - len(missing), len(rows))
    for positions, found in compute(missing):
        for name, leaf in enumerate(found):
            rows[str(name)][positions] = leaf
        rows.flush()  # before it is said to be there
        rows[_DONE][positions] = 1
    rows.flush()


def _is_sound(path: pathlib.Path, record: pathlib.Path) -> bool:
    try:
        return bool(read_record(record, "")["sha256"] == file_digest(path))
    except (OSError, InputError, KeyError):
        return False
