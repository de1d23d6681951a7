"""All keys that a benchmark has, with the published settings of F-CAM on CUB as their values, and what they mean.

A benchmark starts from `defaults()` and says where it differs. Values and meanings are those of the dataclasses of
settings and of the components, so that each stands once.
"""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from fcam_jax.component import at_key, defaults_of, meanings_of
from fcam_jax.configuration.components import CHOICES, LOSS, add_term, at, bring, fill, from_the_command_line, member
from fcam_jax.configuration.flat import flat_settings
from fcam_jax.configuration.settings import (
    CamSettings,
    ClassifierStage,
    FcamSearch,
    FcamStage,
    HeadChoice,
    Model,
    Run,
)
from fcam_jax.data.folder import Folder
from fcam_jax.data.settings import DataSettings
from fcam_jax.evaluation.settings import EvaluationSettings, ValidationSettings
from fcam_jax.losses import LOSSES, Weighted
from fcam_jax.losses.color_filter import ColorFilter
from fcam_jax.seeds.sampling import SeedSettings
from fcam_jax.training.optimizer import OptimizerChoice
from fcam_jax.training.settings import TrainSettings

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
        node, leaf = at(config, path)
        if path:
            node[leaf] = ConfigDict()
        fill(node[leaf] if path else config, defaults_of(kind), kind)
    config.classifier.optimizer.update(learning_rate=0.0017, decay_epochs=15)
    config.fcam.loss = ConfigDict()
    for name, component in LOSSES.items():
        if component.default_weight:
            add_term(config, name)
    bring(config, dict(from_the_command_line()))
    return config


# Settings that came after the first runs; by default they say what was done before.
_LATER = {
    "evaluation": defaults_of(EvaluationSettings),
    "data": {"test_size": DataSettings.test_size},
    "data.folder": {"mask_undecided": Folder.mask_undecided},
    "classifier": {"frozen_norms": ClassifierStage.frozen_norms},
}


def of_today(record: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded configuration with defaults for the settings that came later, and for all of the evaluation's, on
    which no training depends: an older run is loaded, evaluated and reported on as one that has them.
    """
    for path, later in _LATER.items():
        record = _completed(record, path.split("."), later)
    return dict(record)


def _completed(record: Mapping[str, Any], path: Sequence[str], later: Mapping[str, Any]) -> dict[str, Any]:
    """A record with settings that a part of it, by its path, lacks; as it is where that part is absent or damaged."""
    if not path:
        return {**later, **record}
    name, *rest = path
    there = record.get(name)
    return {**record, name: _completed(there, rest, later)} if isinstance(there, Mapping) else dict(record)


def part(config: ConfigDict, path: str) -> Any:
    """The settings of a part of a configuration, one of `PARTS`, checked.

    Raises InputError: a setting is outside its range.
    """
    node, leaf = at(config, path)
    node = node[leaf] if path else config
    values = {field.name: node[field.name] for field in dataclasses.fields(PARTS[path])}
    with at_key(f"config.{path}.".replace("..", ".")):
        return PARTS[path](**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def keys_text(config: ConfigDict) -> str:
    """The keys of a configuration with their values and meanings, and what can be chosen: help of the command line."""
    meanings = _meanings(config)
    lines = ["keys of this configuration:", ""]
    indent = " " * 10
    for key, value in flat_settings(config.to_dict()):
        lines.append(f"  --config.{key}={value}")
        texts = [meanings.get(key, "")]
        if key in CHOICES:
            texts.append(f"one of {', '.join(CHOICES[key])}; a choice brings settings of its own")
        text = "; ".join(text.rstrip(".") for text in texts if text)
        lines += textwrap.wrap(text, 110, initial_indent=indent, subsequent_indent=indent)
    off = [name for name in LOSSES if name not in config.fcam.loss]
    if off:
        lines += ["", f"terms of the loss that are off: {', '.join(off)}; --config.{LOSS}.NAME.weight=... adds one"]
    return "\n".join(lines)


def _meanings(config: ConfigDict) -> dict[str, str]:
    """By key, from the docstrings of the parts and of the chosen components."""
    parts: list[tuple[str, Any]] = list(PARTS.items())
    parts += [(f"{LOSS}.{name}", kind) for name in config.fcam.loss for kind in (Weighted, LOSSES[name])]
    for key in CHOICES:
        node, leaf = at(config, key)
        parts.append((f"{key.rpartition('.')[0]}.{node[leaf]}", member(key, node[leaf])))
    return {f"{path}.{name}".lstrip("."): text for path, kind in parts for name, text in meanings_of(kind).items()}
