"""All keys that a benchmark has, with the published settings of F-CAM on CUB as their values.

A benchmark starts from `defaults()` and says where it differs. The values are those of the dataclasses of settings and
of the components, so that each stands once.
"""

import dataclasses
import functools
import operator
from typing import Any

from ml_collections import ConfigDict

from fcam_jax.component import at_key, defaults_of
from fcam_jax.configuration.components import add_term, bring, fill, from_the_command_line
from fcam_jax.configuration.settings import (
    CamSettings,
    ClassifierStage,
    FcamSearch,
    FcamStage,
    HeadChoice,
    Model,
    Run,
)
from fcam_jax.data.settings import DataSettings
from fcam_jax.evaluation.settings import EvaluationSettings, ValidationSettings
from fcam_jax.losses import LOSSES
from fcam_jax.losses.color_filter import ColorFilter
from fcam_jax.seeds.sampling import SeedSettings
from fcam_jax.training.loop import TrainSettings
from fcam_jax.training.optimizer import OptimizerChoice

# The parts of a configuration, and what holds their settings.
PARTS: dict[str, type[Any]] = {
    "": Run,
    "data": DataSettings,
    "model": Model,
    "model.head": HeadChoice,
    "cam": CamSettings,
    "classifier": ClassifierStage,
    "classifier.optimizer": OptimizerChoice,
    "fcam": FcamStage,
    "fcam.optimizer": OptimizerChoice,
    "fcam.seeds": SeedSettings,
    "fcam.color": ColorFilter,
    "fcam.search": FcamSearch,
    "train": TrainSettings,
    "validation": ValidationSettings,
    "evaluation": EvaluationSettings,
}


def defaults() -> ConfigDict:
    """All keys of a configuration; it is locked, so a benchmark cannot add a misspelt one."""
    config = ConfigDict()
    for path, kind in PARTS.items():
        node = config
        for name in filter(None, path.split(".")):
            if name not in node:
                node[name] = ConfigDict()
            node = node[name]
        fill(node, defaults_of(kind), kind)
    config.classifier.optimizer.update(learning_rate=0.0017, decay_epochs=15)
    config.fcam.loss = ConfigDict()
    for name, component in LOSSES.items():
        if component.default_weight:
            add_term(config, name)
    bring(config, dict(from_the_command_line()))
    return config


def part(config: ConfigDict, path: str) -> Any:
    """The settings of a part of a configuration, checked.

    Args:
      config: all of it.
      path: one of `PARTS`.

    Raises:
      InputError: a setting is outside its range.
    """
    node = functools.reduce(operator.getitem, filter(None, path.split(".")), config)
    values = {field.name: node[field.name] for field in dataclasses.fields(PARTS[path])}
    with at_key(f"config.{path}.".replace("..", ".")):
        return PARTS[path](**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
