"""From the part `data` of a ConfigDict to the data set's splits as batches."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from fcam_jax.component import at_key, defaults_of
from fcam_jax.configuration.components import own
from fcam_jax.configuration.keys import part
from fcam_jax.data import SOURCES
from fcam_jax.data.augment import augmenter
from fcam_jax.data.classes import ClassNames, matched
from fcam_jax.data.loaded import LeftOut, LoadedImages, Memory
from fcam_jax.data.pipeline import FixedCrops, Known, TrainingStream, crop_batches, evaluation_batches, whole_batches
from fcam_jax.data.settings import tested_side
from fcam_jax.data.source import SPLITS, DataSet, share
from fcam_jax.data.summary import summary
from fcam_jax.errors import InputError
from fcam_jax.runs.build_classes import check_same
from fcam_jax.runs.build_model import method
from fcam_jax.runs.data import Data, EvaluationBatches
from fcam_jax.types import Annotation, Batch


def chosen(config: ConfigDict, of_its_own: bool = False) -> DataSet:
    """The chosen source, with the classes of its own where those of the configuration are another model's.

    Raises:
      InputError: an unknown name, or a setting that cannot be used.
    """
    general = part(config, "data")
    if of_its_own and not defaults_of(SOURCES[general.source]).get("num_classes"):
        general = dataclasses.replace(general, num_classes=0)
    with at_key("config.data."):
        return general.data_set(own(config.data, general.source))


def data_set(
    config: ConfigDict,
    classes: ClassNames | None = None,
    of_run: ClassNames | None = None,
    only: str | None = None,
) -> Data:
    """The data set of a configuration, its labels numbered as those of the model.

    Args:
      config: all of it.
      classes: those of the model; None: the data's.
      of_run: those that the run was begun with, once it has.
      only: the split that alone is opened, where nothing is trained.

    Raises:
      InputError: data that is not there or, as `data.on_error` has it, that cannot be used; as `chosen`, `matched` and
        `check_same`.
    """
    data, way = config.data, method(config.classifier)
    there = chosen(config, classes is not None and any(classes))
    splits = [split for split in SPLITS if split in there.splits()]
    if only not in (None, *splits):
        raise InputError(f"the data has no split {only!r} to evaluate; there: {', '.join(splits)}")
    sources = {split: there.open(split) for split in splits if only in (None, split)}
    opened = dict(sources)
    if classes is not None:
        of_data = next((one.class_names for one in sources.values() if one.class_names), None)
        if only is None and of_run is not None and not data.classes:
            check_same(of_run, of_data or ())
        sources = {split: matched(one, of_data, classes, f"split {split}") for split, one in sources.items()}
    if "train" in sources:
        sources["train"] = share(sources["train"], data.fraction, seed=0)  # the same images in every run
    if only is None and (records := way.training_records(sources, config.seed)) is not None:
        sources["train"] = records
    objects = "objects" in way.needs
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

    test_size = tested_side(data)
    training = functools.cache(lambda: loaded("train", data.resize, annotated=objects, kept=True))
    validation = functools.cache(lambda: loaded("val", test_size, annotated=True, kept=True))
    here = {"process_index": jax.process_index(), "process_count": jax.process_count()}

    crops = config.fcam.features
    fixed = FixedCrops(crops, config.seed) if crops else None

    def stream(seed: int, kept: Known | None) -> TrainingStream:
        known: dict[str, Any] = {} if kept is None else {"fixed": fixed, "features": kept} if fixed else {"cams": kept}
        return TrainingStream(
            training(),
            batch_size=data.batch_size,
            crop=data.size,
            seed=seed,
            objects=objects,
            order=way.order(sources["train"], seed),
            **known,
            **here,
        )

    def kept(rows: Sequence[int]) -> Iterator[tuple[Int[np.ndarray, " n"], Batch]]:
        size = config.evaluation.batch_size
        if fixed is None:
            return whole_batches(training(), rows, batch_size=size)
        return crop_batches(training(), rows, batch_size=size, fixed=fixed, side=data.size)

    def sample(count: int, seed: int) -> tuple[Batch, list[Annotation]]:
        images = loaded("train", data.resize, annotated=True, kept=False)
        return TrainingStream(images, batch_size=count, crop=data.size, seed=seed).with_annotations()

    def evaluated(split: str) -> EvaluationBatches:
        images = validation() if split == "val" else loaded(split, test_size, annotated=True, kept=False)
        return evaluation_batches(images, batch_size=config.evaluation.batch_size, **here)

    def lines() -> list[str]:
        known = [f"{split}: {line}" for split, records in sources.items() for line in records.left_out]
        return [*known, *(left_out.lines() if left_out is not None else [])]

    return Data(
        sources=sources,
        batch_size=data.batch_size,
        augment=augmenter(part(config, "data").augmentations),
        stream=stream,
        sample=sample,
        kept=kept,
        evaluated=evaluated,
        left_out=lines,
        summary=lambda: summary(opened),
    )
