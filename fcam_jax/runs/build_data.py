"""From the part `data` of a ConfigDict to the data set's splits as batches."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from fcam_jax.runs.build_model import look_up
from fcam_jax.data.folder import FolderSource
from fcam_jax.data.layouts.problems import ON_ERROR
from fcam_jax.data.layouts.registry import splits as splits_of_folder
from fcam_jax.data.loaded import LeftOut, LoadedImages, Memory
from fcam_jax.data.pipeline import TrainingStream, evaluation_batches, train_batches, whole_batches
from fcam_jax.data.source import Source
from fcam_jax.data.subset import few, share
from fcam_jax.data.synthetic import SyntheticSource
from fcam_jax.data.tfds_source import TfdsSource, splits_of_prepared
from fcam_jax.errors import InputError
from fcam_jax.methods.few_shot import FewShot
from fcam_jax.methods.registry import FEW_SHOT
from fcam_jax.types import Annotation, Batch

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
      sources: records of the splits that there are; in the place of "train" what is trained on, which may be less.
      stream: training batches from a seed on, with the CAMs of the images if given.
      sample: a training batch of so many images from a seed, with its ground truth.
      whole: batches of the training images at some positions.
      evaluated: the batches of a split, each image once; those of val are kept in memory for the next time.
      left_out: what was wrong with each image that was left out so far, a line each.
    """

    sources: dict[str, Source]
    stream: Callable[[int, np.ndarray | None], TrainingStream]
    sample: Callable[[int, int], tuple[Batch, list[Annotation]]]
    whole: Callable[[Sequence[int]], Iterator[Batch]]
    evaluated: Callable[[str], Iterator[tuple[Batch, list[Annotation]]]]
    left_out: Callable[[], list[str]]


def source(data: ConfigDict, split: str) -> Source:
    """The records of a split.

    Raises:
      InputError: for an unknown name, data that is not there or, as `data.on_error` has it, that cannot be used.
    """
    look_up("data.on_error", data.on_error, dict.fromkeys(ON_ERROR))
    builders: dict[str, Callable[[], Source]] = {
        "synthetic": lambda: SyntheticSource(
            split=split,
            size=data.size,
            count=data.synthetic[split],
            num_classes=data.num_classes,
            seed=data.synthetic.seed,
        ),
        "folder": lambda: FolderSource(
            split=split,
            root=_root(data, "the folder that holds the data"),
            num_classes=data.num_classes,
            layout=data.layout,
            upright=data.upright,
            on_error=data.on_error,
        ),
        "tfds": lambda: TfdsSource(
            name=data.tfds,
            split=split,
            data_dir=_root(data, "the folder that the data was prepared in"),
            num_classes=data.num_classes,
        ),
    }
    return look_up("data.source", data.source, builders)()


def splits(data: ConfigDict) -> tuple[str, ...]:
    """Which of train, val and test the data set has."""
    ways: dict[str, Callable[[], tuple[str, ...]]] = {
        "synthetic": lambda: SPLITS,
        "folder": lambda: splits_of_folder(_root(data, "the folder that holds the data"), data.layout),
        "tfds": lambda: splits_of_prepared(data.tfds, _root(data, "the folder that the data was prepared in")),
    }
    return look_up("data.source", data.source, ways)()


def data_set(config: ConfigDict) -> Data:
    """The data set of a configuration.

    Raises:
      InputError: as `source`.
    """
    data = config.data
    there = splits(data)
    sources = {split: source(data, split) for split in SPLITS if split in there}
    few_shot = config.classifier.method == FEW_SHOT
    if few_shot:
        sources["train"] = _few(config, sources.get("val"))
    elif "train" in sources:
        sources["train"] = share(sources["train"], data.fraction, seed=0)  # the same images in every run
    left_out = LeftOut() if data.on_error == "skip" else None
    memory = Memory(int(data.cache_gigabytes * 2**30))

    def loaded(split: str, side: int, *, annotated: bool, kept: bool) -> LoadedImages:
        if split not in sources:
            raise InputError(f"the data has no split {split!r}; there: {', '.join(sources)}")
        return LoadedImages(
            sources[split],
            side,
            annotated=annotated,
            memory=memory if kept else None,
            left_out=left_out,
            name=split,
        )

    training = functools.cache(lambda: loaded("train", data.resize, annotated=few_shot, kept=True))
    validation = functools.cache(lambda: loaded("val", data.size, annotated=True, kept=True))
    here = {"process_index": jax.process_index(), "process_count": jax.process_count()}

    def sample(count: int, seed: int) -> tuple[Batch, list[Annotation]]:
        images = loaded("train", data.resize, annotated=True, kept=False)
        return train_batches(images, batch_size=count, crop=data.size, seed=seed).with_annotations()

    def evaluated(split: str) -> Iterator[tuple[Batch, list[Annotation]]]:
        images = validation() if split == "val" else loaded(split, data.size, annotated=True, kept=False)
        return evaluation_batches(images, batch_size=config.evaluation.batch_size, **here)

    def lines() -> list[str]:
        known = [f"{split}: {line}" for split, records in sources.items() for line in records.left_out]
        return [*known, *(left_out.lines() if left_out is not None else [])]

    return Data(
        sources=sources,
        stream=lambda seed, cams: train_batches(
            training(), batch_size=data.batch_size, crop=data.size, seed=seed, cams=cams, objects=few_shot, **here
        ),
        sample=sample,
        whole=lambda positions: whole_batches(training(), positions, batch_size=config.evaluation.batch_size),
        evaluated=evaluated,
        left_out=lines,
    )


def _few(config: ConfigDict, val: Source | None) -> Source:
    """What the few-shot baseline is trained on: some validation images, with their ground truth."""
    if val is None or not val.localized:
        what = "there is no val split" if val is None else "the val split has neither boxes nor masks"
        raise InputError(f"classifier.method=fsl is trained on boxes or masks of the val split, but {what}")
    settings = FewShot(**config.classifier.fsl.to_dict())
    return few(val, settings.images_per_class, config.seed)


def _root(data: ConfigDict, what: str) -> str:
    if not data.root:
        raise InputError(f"data.root is empty; give {what}: --config.data.root=DIR")
    return str(data.root)
