"""The TFDS builder of the three data sets: records of checked files, in the order of the metadata, as array_record.

Import this module only where data are prepared: TFDS takes a second to import. TensorFlow is not needed.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import io
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Int
from tensorflow_datasets.core import writer

from fcam_jax.data.published.check import CheckedSplit
from fcam_jax.data.published.datasets import VERSION, WsolDataset
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import link_or_copy
from fcam_jax.runtime.progress import counted

_SHARD_BYTES = 2**27  # more would only be held in memory, and lost by an interruption
# Records one by one, for random access; JPEG and PNG are compressed already.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_SHARD_EXTRA = 2**18  # bytes of a shard that are not those of its files: padding, ids, boxes

Examples = Iterator[tuple[int, Any]]


@dataclasses.dataclass(frozen=True)
class _Shard:
    """A part of a split.

    Attributes:
      split: whose.
      indices: positions of its images in the metadata.
      path: where it lies when it is finished; the name hangs on all that it holds.
    """

    split: CheckedSplit
    indices: Int[np.ndarray, " n"]
    path: pathlib.Path


class WsolBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes a data set. Finished shards are kept in a folder until all are there, so that an interruption costs one.

    Features: `image` (the file's own bytes), `image_id`, `label`, `boxes` (``x0, y0, x1, y1`` in stored pixels),
    `masks` (a PNG of each object), `ignore` (a PNG, or nothing).
    """

    VERSION = tfds.core.Version(VERSION)

    def __init__(
        self,
        dataset: WsolDataset,
        splits: Mapping[str, CheckedSplit],
        *,
        facts: Mapping[str, Any],
        data_dir: pathlib.Path,
        kept: pathlib.Path,
        workers: int,
    ):
        """Plan the shards.

        Args:
          dataset: what is published of the data set.
          splits: by name; images that are not good are left out.
          facts: what readers are to know besides the records, as JSON data.
          data_dir: folder of all prepared data sets.
          kept: folder of finished shards.
          workers: threads that read.
        """
        self.name = dataset.name
        self._dataset = dataset
        self._kept = kept
        self._facts = facts
        self._workers = workers
        self._shards = {name: list(_shards(split, kept)) for name, split in splits.items()}
        super().__init__(data_dir=data_dir, file_format="array_record")

    def prepare(self) -> None:
        """Write what is not written yet, and put everything in place as a whole.

        Raises:
          InputError: the disk has no room for it, or an image has changed since it was checked.
          OSError: the folder cannot be written.
        """
        self._check_room()
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        # TFDS speaks of downloads, of which there are none, and makes a folder for them.
        with contextlib.redirect_stdout(io.StringIO()):
            self.download_and_prepare(download_config=config, download_dir=self._kept / "downloads")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "image_id": tfds.features.Text(),
                "label": tfds.features.ClassLabel(num_classes=self._dataset.num_classes),
                "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.int32),
                "masks": tfds.features.Sequence(tfds.features.Text()),
                "ignore": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._dataset.description,
            homepage=self._dataset.homepage,
            features=features,
            metadata=tfds.core.MetadataDict(self._facts),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Callable[[], Examples]]]:
        return {
            name: [
                functools.partial(self._examples, shard, f"writing {name}, shard {number} of {len(shards)}")
                for number, shard in enumerate(shards, 1)
            ]
            for name, shards in self._shards.items()
        }

    def _example_writer(self) -> "_Shelf":
        names = {}
        for name, shards in self._shards.items():
            for number, shard in enumerate(shards):
                names[f"{self.name}-{name}.array_record-{number:05d}-of-{len(shards):05d}"] = shard.path
        return _Shelf(names)

    def _examples(self, shard: _Shard, title: str) -> Examples:
        """The records of a shard; of one that is finished only their number matters."""
        if shard.path.exists():
            yield from ((index, None) for index in shard.indices.tolist())
            return
        indices = shard.indices.tolist()
        with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
            records = pool.map(functools.partial(_example, shard.split), indices)
            yield from zip(indices, counted(records, title, len(indices), "image"), strict=True)

    def _check_room(self) -> None:
        missing = [shard for shards in self._shards.values() for shard in shards if not shard.path.exists()]
        needed = sum(int(shard.split.byte_counts[shard.indices].sum()) + _SHARD_EXTRA for shard in missing)
        free = shutil.disk_usage(self._kept).free
        if needed > free:
            raise InputError(
                f"--data_dir={self._data_dir_root}: {needed / 1e9:.2f} GB are still to be written, but its disk has "
                f"{free / 1e9:.2f} GB left; free some, or name another folder"
            )


class _Shelf(writer.ExampleWriter):
    """Puts finished shards in place, and finishes those that are not."""

    def __init__(self, paths: Mapping[str, pathlib.Path]):
        """Take where the shard of each file name is kept."""
        super().__init__(tfds.core.FileFormat.ARRAY_RECORD)
        self._paths = paths

    def write(self, path: os.PathLike[str], examples: Iterable[tuple[Any, bytes]]) -> None:
        """Finish a shard and link it to its place."""
        kept = self._paths[pathlib.Path(path).name]
        if not kept.exists():
            partial = kept.with_suffix(".partial")
            records = ArrayRecordWriter(str(partial), _WRITER_OPTIONS)
            for _, example in examples:
                self._try(functools.partial(records.write, example))
            self._try(records.close)
            partial.replace(kept)
        link_or_copy(kept, pathlib.Path(path))

    def _try(self, write: Callable[[], None]) -> None:
        """array_record has one exception for all that can happen."""
        try:
            write()
        except RuntimeError as error:
            raise InputError(f"a shard cannot be written ({error}); make room and start again") from error


def _shards(split: CheckedSplit, kept: pathlib.Path) -> Iterator[_Shard]:
    """The good images of a split, cut where a shard is full."""
    good = np.flatnonzero(split.good)
    number = np.cumsum(split.byte_counts[good]) // _SHARD_BYTES
    for part in np.split(good, np.flatnonzero(np.diff(number)) + 1):
        yield _Shard(split, part, kept / f"{_contents(split, part)}.array_record")


def _contents(split: CheckedSplit, indices: Int[np.ndarray, " n"]) -> str:
    """A checksum of all that a shard holds."""
    metadata = split.metadata
    total = hashlib.sha256()
    for index in indices.tolist():
        boxes = metadata.boxes[index].tolist() if metadata.boxes is not None else None
        facts = (metadata.image_ids[index], int(metadata.labels[index]), boxes, split.digest(index))
        total.update(repr(facts).encode())
    return total.hexdigest()[:32]


def _example(split: CheckedSplit, index: int) -> dict[str, Any]:
    metadata, raw = split.metadata, split.read(index)
    boxes = metadata.boxes[index] if metadata.boxes is not None else np.zeros((0, 4))
    return {
        "image": io.BytesIO(raw.image),
        "image_id": metadata.image_ids[index],
        "label": int(metadata.labels[index]),
        "boxes": boxes.astype(np.int32),
        "masks": list(raw.masks),
        "ignore": raw.ignore,
    }
