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
    """A part of a split: positions of its images in the metadata, and where it lies when it is finished."""

    split: CheckedSplit
    indices: Int[np.ndarray, " n"]
    path: pathlib.Path  # its name hangs on all that it holds


class WsolBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes a data set. Finished shards are kept in a folder until all are there, so that an interruption costs one.

    Features: `image` (the file's own bytes), `image_id`, `label`, `boxes` (``x0, y0, x1, y1`` in stored pixels),
    `masks` (a PNG of each object), `ignore` (a PNG, or nothing).
    """

    VERSION = tfds.core.Version(VERSION)

    def __init__(
        self,
        dataset: WsolDataset,  # what is published of the data set
        splits: Mapping[str, CheckedSplit],  # by name; images that are not good are left out
        *,
        facts: Mapping[str, Any],  # what readers are to know besides the records, as JSON data
        data_dir: pathlib.Path,  # folder of all prepared data sets
        kept: pathlib.Path,  # folder of finished shards
        workers: int,  # threads that read
    ):
        self.name = dataset.name
        self._dataset, self._kept, self._facts, self._workers = dataset, kept, facts, workers
        self._shards = {name: list(_shards(split, kept)) for name, split in splits.items()}
        super().__init__(data_dir=data_dir, file_format="array_record")

    def prepare(self) -> None:
        """Write what is not written yet, and put everything in place as a whole. Raises InputError: the disk has no
        room for it, or an image has changed since it was checked. OSError: the folder cannot be written.
        """
        missing = [shard for shards in self._shards.values() for shard in shards if not shard.path.exists()]
        needed = sum(int(shard.split.byte_counts[shard.indices].sum()) + _SHARD_EXTRA for shard in missing)
        free = shutil.disk_usage(self._kept).free
        if needed > free:
            text = f"{needed / 1e9:.2f} GB are still to be written, but its disk has {free / 1e9:.2f} GB left"
            raise InputError(f"--data_dir={self._data_dir_root}: {text}; free some, or name another folder")
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        # TFDS speaks of downloads, of which there are none, and makes a folder for them.
        with contextlib.redirect_stdout(io.StringIO()):
            self.download_and_prepare(download_config=config, download_dir=self._kept / "downloads")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "image_id": tfds.features.Text(),
            "label": tfds.features.ClassLabel(num_classes=self._dataset.num_classes),
            "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.int32),
            "masks": tfds.features.Sequence(tfds.features.Text()),
            "ignore": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._dataset.description,
            homepage=self._dataset.homepage,
            features=tfds.features.FeaturesDict(features),
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
        names = {
            f"{self.name}-{name}.array_record-{number:05d}-of-{len(shards):05d}": shard.path
            for name, shards in self._shards.items()
            for number, shard in enumerate(shards)
        }
        return _Shelf(names)

    def _examples(self, shard: _Shard, title: str) -> Examples:
        """The records of a shard; of one that is finished only their number matters."""
        indices = shard.indices.tolist()
        if shard.path.exists():
            yield from ((index, None) for index in indices)
            return
        with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
            records = pool.map(functools.partial(_example, shard.split), indices)
            yield from zip(indices, counted(records, title, len(indices), "image"), strict=True)


class _Shelf(writer.ExampleWriter):
    """Puts finished shards in place, and finishes those that are not; `paths`: where each is kept, by its file name."""

    def __init__(self, paths: Mapping[str, pathlib.Path]):
        super().__init__(tfds.core.FileFormat.ARRAY_RECORD)
        self._paths = paths

    def write(self, path: os.PathLike[str], examples: Iterable[tuple[Any, bytes]]) -> None:
        """Finish a shard and link it to its place."""
        kept = self._paths[pathlib.Path(path).name]
        if not kept.exists():
            partial = kept.with_suffix(".partial")
            records = ArrayRecordWriter(str(partial), _WRITER_OPTIONS)
            for _, example in examples:
                with _written():
                    records.write(example)
            with _written():
                records.close()
            partial.replace(kept)
        link_or_copy(kept, pathlib.Path(path))


@contextlib.contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the one exception of array_record for all that can happen
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
        boxes = metadata.boxes_of(index)
        listed = None if boxes is None else boxes.tolist()
        facts = (metadata.image_ids[index], int(metadata.labels[index]), listed, split.digest(index))
        total.update(repr(facts).encode())
    return total.hexdigest()[:32]


def _example(split: CheckedSplit, index: int) -> dict[str, Any]:
    metadata, raw = split.metadata, split.read(index)
    boxes = metadata.boxes_of(index)
    return {
        "image": io.BytesIO(raw.image),
        "image_id": metadata.image_ids[index],
        "label": int(metadata.labels[index]),
        "boxes": np.zeros((0, 4), np.int32) if boxes is None else boxes.astype(np.int32),
        "masks": list(raw.masks),
        "ignore": raw.ignore,
    }
