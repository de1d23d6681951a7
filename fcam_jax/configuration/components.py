"""Where a configuration chooses components, and the settings that a choice brings with it.

A choice such as ``cam.name="layercam"`` brings ``cam.layercam`` with the settings of that CAM and their defaults; those
of the others are absent, and so are the terms of the loss that are off. So a record shows what is used, and no more.
"""

import contextlib
import contextvars
import difflib
import operator
import pathlib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from fcam_jax.cams import CAMS
from fcam_jax.component import Registry, defaults_of
from fcam_jax.configuration import files
from fcam_jax.data import SOURCES
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.evaluation.metrics import METRICS
from fcam_jax.losses import LOSSES, Weighted
from fcam_jax.methods import METHODS
from fcam_jax.models import ENCODERS
from fcam_jax.models.encoders import default_cam, default_stride, of_kind
from fcam_jax.models.heads import HEADS
from fcam_jax.seeds.sampling import DRAWS, THRESHOLDS
from fcam_jax.training.optimizer import OPTIMIZERS

ENCODER, METHOD = "model.encoder", "classifier.method"

# Key of the choice -> the components that can be chosen. Their settings stand beside the key, under their names.
CHOICES: dict[str, Registry[Any]] = {
    ENCODER: ENCODERS,
    "model.head.name": HEADS,
    "cam.name": CAMS,
    METHOD: METHODS,
    "classifier.optimizer.name": OPTIMIZERS,
    "fcam.optimizer.name": OPTIMIZERS,
    "fcam.seeds.threshold": THRESHOLDS,
    "fcam.seeds.draw": DRAWS,
    "data.source": SOURCES,
}
LOSS = "fcam.loss"  # holds the terms that are on, by their names

# What the argument of a benchmark calls the choices.
NAMES = {
    "encoder": ENCODER,
    "head": "model.head.name",
    "cam": "cam.name",
    "method": METHOD,
    "source": "data.source",
}

_of_the_command_line: contextvars.ContextVar[tuple[tuple[str, str], ...]]
_of_the_command_line = contextvars.ContextVar("choices", default=())
from_the_command_line = _of_the_command_line.get


@contextlib.contextmanager
def choosing(choices: Mapping[str, str]) -> Iterator[None]:
    """Within this, a benchmark finds the choices of the command line made from its first line on.

    So a benchmark has the values that suit a choice, whether it is made by its argument or by a key.
    """
    token = _of_the_command_line.set(tuple(choices.items()))
    try:
        yield
    finally:
        _of_the_command_line.reset(token)


def choices(args: str, names: Sequence[str]) -> dict[str, str]:
    """What the argument of a file chooses, by name.

    Args:
      args: "name=value" with commas between, in any order; a value without its name is that of the name in its place
        ("encoder,cam", ",cam").
      names: what can be chosen, in the order of values without a name.

    Raises:
      InputError: a name that cannot be chosen, or one that is chosen twice.
    """
    chosen: dict[str, str] = {}
    for place, part in enumerate(args.split(",")):
        name, named, value = part.rpartition("=")
        if not part:
            continue
        if not named and place >= len(names):
            raise InputError(f"the argument {args!r} has more values than there are names: {', '.join(names)}")
        name = name if named else names[place]
        if name not in names:
            raise unknown_name(f"name in the argument {args!r}:", name, names)
        if name in chosen:
            raise InputError(f"the argument {args!r} chooses {name} twice")
        chosen[name] = value
    return chosen


def choose(config: ConfigDict, args: str, names: Sequence[str] = ("encoder", "cam", "method")) -> dict[str, str]:
    """Choose components of a configuration in place by `choices`, which it returns; each brings its settings.

    A method that is one of some encoder brings that, unless an encoder is chosen with it or one of that kind is there.

    Args:
      args: such as ``"vgg16,method=has"``.
      names: what can be chosen: those of `NAMES`, and more of the caller's own.
    """
    chosen = choices(args, names)
    by_key = {NAMES[name]: value for name, value in chosen.items() if name in NAMES} | dict(from_the_command_line())
    wanted = member(METHOD, by_key[METHOD]).default_encoder if METHOD in by_key else ""
    if wanted and not of_kind(member(ENCODER, config.model.encoder), member(ENCODER, wanted)):
        by_key = {ENCODER: wanted} | by_key
    bring(config, by_key)
    return chosen


def bring(config: ConfigDict, chosen: Mapping[str, str]) -> None:
    """Choose components by their keys. The settings of what is chosen come, those of others go.

    Another encoder brings a final stride and a CAM that it can have, in the place of those that the one before brought.

    Raises InputError: there is no such component.
    """
    with config.unlocked():
        for key, name in chosen.items():
            member(key, name)
            if key == ENCODER and name != config.model.encoder:
                _replace(config, _suited(config.model.encoder), _suited(name))
            node, leaf = at(config, key)
            node[leaf] = name
        for key, registry in CHOICES.items():
            node, leaf = at(config, key)
            name = node[leaf]
            for other in registry:
                if other != name and isinstance(node.get(other), ConfigDict):
                    del node[other]
            component = member(key, name)
            # Keys of the part it is chosen in, and what methods set by themselves, are no settings of its own.
            besides = {*node, *getattr(getattr(component, "func", component), "for_methods", ())}
            settings = {one: value for one, value in defaults_of(component).items() if one not in besides}
            if settings and name not in node:
                node[name] = ConfigDict()
                fill(node[name], settings, component)
    config.lock()


def _suited(encoder: str) -> dict[str, Any]:
    """What an encoder needs of other parts of a configuration, by key, where nobody chooses it."""
    build = member(ENCODER, encoder)
    return {"model.final_stride": default_stride(build), "cam.name": default_cam(build)}


def _replace(config: ConfigDict, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Give the keys that have the values before those after; others have been chosen, and stay."""
    for key, value in after.items():
        node, leaf = at(config, key)
        if node[leaf] == before[key]:
            node[leaf] = value


def member(key: str, name: str) -> Any:
    """The component of a name that can be chosen at a key. Raises InputError: there is none."""
    if name not in CHOICES[key]:
        raise unknown_name(f"config.{key}", name, CHOICES[key])
    return CHOICES[key][name]


def fill(part: ConfigDict, settings: Mapping[str, Any], component: Any) -> None:
    """Put settings into a part of a configuration; None is a value that may be given, of the annotated type."""
    for name, value in settings.items():
        if value is None:
            kinds = typing.get_args(typing.get_type_hints(component)[name])
            value = config_dict.placeholder(next(kind for kind in kinds if kind is not type(None)))
        part[name] = value


def own(part: ConfigDict, name: str) -> dict[str, Any]:
    """The settings of what is chosen under its name; a record has lists where they are tuples."""
    values = part[name].to_dict() if isinstance(part.get(name), ConfigDict) else {}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def add_term(config: ConfigDict, name: str) -> None:
    """Bring a term of the loss that is off, with weight 0, to give its settings values."""
    if name not in config.fcam.loss:
        with config.unlocked():
            term = LOSSES[name]
            config.fcam.loss[name] = ConfigDict({"weight": term.default_weight})
            for kind in (Weighted, term):
                fill(config.fcam.loss[name], defaults_of(kind), kind)
        config.lock()


def at(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    """The part of a configuration that holds a key, and the last name of the key."""
    path, _, leaf = key.rpartition(".")
    return operator.attrgetter(path)(config) if path else config, leaf


def found(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    """As `at`, for a key that a user gives; a term of the loss that is off appears.

    Raises InputError: there is no such key, or it is a setting of a component that is not chosen.
    """
    names = key.split(".")
    if key.startswith(f"{LOSS}.") and names[2] in LOSSES:
        add_term(config, names[2])
    parent: Any = config
    node: Any = config
    for place, name in enumerate(names):
        known = sorted(node) if isinstance(node, ConfigDict) else []
        if name not in known:
            raise _unknown(key, ".".join(names[:place]), name, known)
        parent, node = node, node[name]
    return parent, names[-1]


def outside(config: ConfigDict) -> tuple[str, ...]:
    """The files outside of the package that have registered what is chosen."""
    chosen = [(known, operator.attrgetter(key)(config)) for key, known in CHOICES.items()]
    chosen += [(LOSSES, name) for name in config.fcam.loss] + [(METRICS, name) for name in METRICS]
    return tuple(sorted({known.files[name] for known, name in chosen if name in known.files}))


def import_components(record: Mapping[str, Any]) -> None:
    """Import the files that a recorded configuration says its components are in, unless they are there.

    Raises InputError: one is not where it was, or fails.
    """
    for name in record.get("components", ()):
        if any(name in known.files.values() for known in (*CHOICES.values(), LOSSES, METRICS)):
            continue
        path = pathlib.Path(name)
        if not path.is_file():
            cure = 'put it back, or say in the run\'s config.json, under "components", where it is now'
            raise InputError(f"{name} registers components of this run and is not there; {cure}")
        files.load(path, "components")


def _unknown(key: str, path: str, name: str, known: Sequence[str]) -> InputError:
    """What is wrong with a key whose name, at a path, is none of the known ones."""
    for choice, registry in CHOICES.items():
        if choice.rpartition(".")[0] == path and name in registry:
            chosen = f"--config.{choice}={name}"
            return InputError(f"config.{key} is a setting of what is not chosen; choose it by {chosen}")
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return InputError(f"unknown configuration key config.{key}: {hint}known: {', '.join(known) or 'none'}")
