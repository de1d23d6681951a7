"""A data set that TFDS has prepared, as array_record: ours (`fcam prepare`) and the stock caltech_birds2011.

The records are those that a `FolderSource` over the same files gives. array_record checks every read against a stored
hash, so a damaged shard is an error, never other pixels.
"""

import bisect
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from fcam_jax.component import known
from fcam_jax.data.images import decode_image
from fcam_jax.data.layouts.metadata import folder_names
from fcam_jax.data.masks import decode_mask
from fcam_jax.data.published.datasets import DATASETS, VERSION
from fcam_jax.data.source import Record, fingerprint, needs_root
from fcam_jax.errors import InputError, extra, unknown_name
from fcam_jax.runtime.progress import counted

_BIRDS = "caltech_birds2011"  # TFDS's own
_HELD_OUT = 5  # images of each class of its training split, which are the validation split

# Data sets that can be read, by their names: the version that is read, and the command that prepares them.
_KNOWN = {
    dataset.name: (VERSION, f"fcam prepare --dataset={dataset.key} --source=DIR --data_dir=")
    for dataset in DATASETS.values()
} | {_BIRDS: ("0.2.0", f"tfds build {_BIRDS} --file_format=array_record --data_dir=")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set that TFDS has prepared.

    Of `caltech_birds2011`, the builder that comes with TFDS, `val` is not CUBV2 but the last five images of each class
    of the official training split by file name, which `train` then lacks: figures chosen by it are not those of the
    protocol.

    Attributes:
      root: folder of all prepared data sets.
      tfds: name of the data set: cub_wsol, openimages30k_wsol, ilsvrc_wsol or caltech_birds2011.
      num_classes: number of classes; 0: as many as were prepared.
    """

    root: str = ""
    tfds: str = ""
    num_classes: int = 0

    def __post_init__(self) -> None:
        needs_root(self.root)
        known(self, tfds=_KNOWN)

    def splits(self) -> tuple[str, ...]:
        """Those that were prepared."""
        return tuple(_stored(_info(self.tfds, pathlib.Path(self.root))))

    def open(self, split: str) -> "TfdsSource":
        """The records of a split."""
        return TfdsSource(name=self.tfds, split=split, data_dir=self.root, num_classes=self.num_classes)


class TfdsSource:
    """The records of one split of a prepared data set, in the order in which they were prepared."""

    def __init__(self, *, name: str, split: str, data_dir: str | os.PathLike[str], num_classes: int):
        """Open the split; see `Prepared`. Raises InputError: the data set is not there, or is another than is asked
        for.
        """
        info = _info(name, pathlib.Path(data_dir))
        classes = info.features["label"].num_classes
        num_classes = num_classes or classes
        if classes != num_classes:
            raise InputError(f"{info.data_dir}: has {classes} classes, but data.num_classes is {num_classes}")
        stored = _stored(info)
        if split not in stored:
            raise unknown_name(f"split of {info.data_dir}", split, stored)
        self._shards = _Shards(info, stored[split])
        self._positions: Sequence[int] = range(len(self._shards))
        if name == _BIRDS:
            examples = map(self._shards.__getitem__, self._positions)
            told = counted(examples, f"listing {name}", len(self._shards), "image")
            self._positions, facts = _select(told, split, num_classes)
            self._record: Callable[[Mapping[str, Any], str], Record] = _bird
        else:
            facts = info.metadata["splits"][split]
            self._record = functools.partial(_record, boxed=facts["regions_are"] == "boxes")
        identity = facts["identity"]
        self._labels = facts.get("labels")  # what was prepared by early versions lacks them
        names, truth = identity["class_names"], "boxes" if facts["regions_are"] == "boxes" else "mask"
        self.num_classes = num_classes
        self.class_names: tuple[str, ...] | None = None if names is None else tuple(names)
        self.truth: tuple[str, ...] = (truth,) if identity["localized"] else ()
        self.left_out: tuple[str, ...] = tuple(identity["left_out"])
        self.fingerprint: str = identity["fingerprint"]

    def __len__(self) -> int:
        """The number of images."""
        return len(self._positions)

    def labels(self) -> Int[np.ndarray, " n"]:
        """The class of every record. Where it does not lie beside the examples they are read, with no image decoded."""
        if self._labels is not None:
            return np.array(self._labels)
        examples = (self._shards[position] for position in self._positions)
        return np.array([int(one["label"]) for one in counted(examples, "listing classes", len(self), "image")])

    def __getitem__(self, index: int) -> Record:
        """The record at a position, in the order in which the data were prepared. Raises InputError: its shard is
        damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"no image {index}, there are {len(self)}")
        position = self._positions[index]
        return self._record(self._shards[position], f"{self._shards.path(position)}, record {position}")


class _Shards:
    """The stored examples of a split, with images as they are encoded; thread safe."""

    def __init__(self, info: Any, split: str):
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.data_sources.array_record import ArrayRecordDataSource

        self._info = info
        self._paths = [str(path) for path in info.splits[split].filepaths]
        self._ends = list(itertools.accumulate(info.splits[split].shard_lengths))
        missing = [path for path in self._paths if not pathlib.Path(path).is_file()]
        if missing:
            raise InputError(f"{missing[0]}: is not there, with {len(missing) - 1} other file(s); {_again(info)}")
        encoded = {key: tfds.decode.SkipDecoding() for key in info.features if key in ("image", "segmentation_mask")}
        self._examples = ArrayRecordDataSource(info, split=split, decoders=encoded)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, position: int) -> Mapping[str, Any]:
        try:
            return self._examples[position]
        except Exception as error:  # array_record and the protocol buffers below it have no closed list
            raise InputError(f"{self.path(position)}: is damaged; {_again(self._info)}") from error

    def path(self, position: int) -> str:
        """Of the file that an example is in."""
        return self._paths[bisect.bisect_right(self._ends, position)]


def _stored(info: Any) -> Mapping[str, str]:
    """Which stored split each of a data set's is made of."""
    birds = {"train": "train", "val": "train", "test": "test"}
    return birds if info.name == _BIRDS else {held: held for held in info.splits}


def _record(example: Mapping[str, Any], place: str, *, boxed: bool) -> Record:
    """The record of an example as `fcam_jax.data.published.builder` stores it; `boxed`: its split has boxes."""
    image_id = example["image_id"].decode()
    name = f"{place} ({image_id})"
    image = decode_image(example["image"], name, trusted=True)  # looked at when they were prepared
    masks = [decode_mask(data, name).object for data in example["masks"]]
    mask = functools.reduce(np.logical_or, masks) if masks else None
    ignore = decode_mask(example["ignore"], name).object if example["ignore"] else None
    return Record(image, int(example["label"]), image_id, example["boxes"] if boxed else None, mask, ignore)


def _select(examples: Iterable[Mapping[str, Any]], split: str, num_classes: int) -> tuple[list[int], dict[str, Any]]:
    """The birds of a split, in the order of their ids, by position in the stored split; and what is known of it."""
    found = sorted((_bird_id(example), int(example["label"]), i) for i, example in enumerate(examples))
    by_class = itertools.groupby(sorted(found, key=lambda bird: bird[1]), key=lambda bird: bird[1])
    held_out = {bird for _, birds in by_class for bird in list(birds)[-_HELD_OUT:]}
    found = [bird for bird in found if split == "test" or (bird in held_out) == (split == "val")]
    image_ids, labels = [image_id for image_id, _, _ in found], [label for _, label, _ in found]
    names = folder_names(image_ids, np.array(labels), num_classes)
    identity = {"fingerprint": fingerprint(image_ids, labels), "class_names": names, "localized": True, "left_out": ()}
    return [i for _, _, i in found], {"identity": identity, "labels": labels, "regions_are": "boxes"}


def _bird(example: Mapping[str, Any], place: str) -> Record:
    """The record of a bird; its box, stored as shares of the image's sides, in whole pixels."""
    image_id = _bird_id(example)
    image = decode_image(example["image"], f"{place} ({image_id})", trusted=True)
    height, width = image.shape[:2]
    ymin, xmin, ymax, xmax = np.asarray(example["bbox"], np.float64)
    box = np.rint([xmin * width, ymin * height, xmax * width, ymax * height]).astype(np.int32)
    return Record(image, int(example["label"]), image_id, box[None])


def _bird_id(example: Mapping[str, Any]) -> str:
    """Folder and name of the file, as in the metadata of the protocol."""
    return "/".join(example["image/filename"].decode().split("/")[-2:])


def _info(name: str, data_dir: pathlib.Path) -> Any:
    """What TFDS has stored about a data set, which is of the version that is read here."""
    with extra("tfds", "data.source=tfds"):
        import tensorflow_datasets as tfds

    version, command = _KNOWN[name]
    data_dir = data_dir.expanduser()
    folder = data_dir / name / version
    if not (folder / "dataset_info.json").is_file():
        others = sorted(path.parent.name for path in (data_dir / name).glob("*/dataset_info.json"))
        there = f"is prepared in version {', '.join(others)}, but {version} is needed" if others else "is not prepared"
        raise InputError(f"{data_dir / name}: {there}; run {command}{data_dir}")
    again = f"remove it and run {command}{data_dir}"
    try:
        info = tfds.builder_from_directory(folder).info
        kind = info.file_format
        if name != _BIRDS:
            info.metadata["splits"]  # a file beside the others
    except Exception as error:  # whatever JSON and protocol buffers stumble over
        raise InputError(f"{folder}: cannot be read ({error}); {again}") from error
    if kind != tfds.core.FileFormat.ARRAY_RECORD:
        raise InputError(f"{folder}: is stored as {kind.value}; {again}")
    return info


def _again(info: Any) -> str:
    folder = pathlib.Path(info.data_dir)
    return f"remove {folder} and run {_KNOWN[info.name][1]}{folder.parent.parent}"
