"""From the part `data` of a ConfigDict to the data set's splits as batches."""

import dataclasses

from ml_collections import ConfigDict

from fcam_jax.component import at_key, defaults_of
from fcam_jax.configuration.components import own
from fcam_jax.configuration.keys import part
from fcam_jax.data import SOURCES
from fcam_jax.data.augment import augmenter
from fcam_jax.data.classes import ClassNames, matched
from fcam_jax.data.pipeline import FixedCrops
from fcam_jax.data.settings import tested_side
from fcam_jax.data.source import SPLITS, DataSet, share
from fcam_jax.errors import InputError
from fcam_jax.runs.build_classes import check_same
from fcam_jax.runs.build_model import method
from fcam_jax.runs.data import Data


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
      classes: those of the model; None: the data's.
      of_run: those that the run was begun with, once it has.
      only: the split that alone is opened, where nothing is trained.

    Raises:
      InputError: data that is not there or, as `data.on_error` has it, that cannot be used; as `chosen`, `matched` and
        `check_same`.
    """
    settings, way = part(config, "data"), method(config.classifier)
    there = chosen(config, classes is not None and any(classes))
    splits = [split for split in SPLITS if split in there.splits()]
    if only not in (None, *splits):
        raise InputError(f"the data has no split {only!r} to evaluate; there: {', '.join(splits)}")
    sources = {split: there.open(split) for split in splits if only in (None, split)}
    opened = dict(sources)
    if classes is not None:
        of_data = next((one.class_names for one in sources.values() if one.class_names), None)
        if only is None and of_run is not None and not settings.classes:
            check_same(of_run, of_data or ())
        sources = {split: matched(one, of_data, classes, f"split {split}") for split, one in sources.items()}
    if "train" in sources:
        sources["train"] = share(sources["train"], settings.fraction, seed=0)  # the same images in every run
    if only is None and (records := way.training_records(sources, config.seed)) is not None:
        sources["train"] = records
    crops = config.fcam.features
    return Data(
        opened=opened,
        sources=sources,
        settings=settings,
        tested_side=tested_side(config.data),
        evaluated_at_once=config.evaluation.batch_size,
        augment=augmenter(settings.augmentations),
        fixed=FixedCrops(crops, config.seed) if crops else None,
        way=way,
    )
