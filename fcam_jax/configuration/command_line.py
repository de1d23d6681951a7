"""The options --config=NAME[:args] and --config.key=value: from words to a configuration, every mistake in one line."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from fcam_jax.configuration import files
from fcam_jax.configuration.components import CHOICES, bring, choosing, found, member, outside
from fcam_jax.errors import InputError

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def configuration(config: str, overrides: Mapping[str, Any]) -> ConfigDict:
    """The configuration that these options stand for.

    Args:
      config: value of the option --config: a packaged benchmark or a path, with its argument after a colon.
      overrides: values of the options --config.key, by key.

    Raises InputError: there is no such benchmark, it fails, or an override names no key of it or has no fitting value.
    """
    file, _, args = config.partition(":")
    path = files.called(file, "config")
    chosen = {key: str(value) for key, value in overrides.items() if key in CHOICES}
    get_config = files.function_of(path, "get_config", f"config={config}")
    for key, name in chosen.items():
        member(key, name)  # now that the file may have registered it
    arguments = [args] if args else []
    try:
        with choosing(chosen):
            result = get_config(*arguments)
    except InputError:  # it has values for a choice of its own that another one replaces; here they go with it
        result = get_config(*arguments)
    if not isinstance(result, ConfigDict):
        raise InputError(f"config={config}: get_config must return what fcam_jax.configuration.defaults() began")
    return override(result, overrides)


def override(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """The configuration, changed in place: choices first, which bring their settings with them, then other keys.

    Values are by dotted key; a text is read in the type that the key has. Raises InputError: there is no such key or
    component, or a value does not fit.
    """
    bring(config, {key: str(value) for key, value in values.items() if key in CHOICES})
    for key, value in values.items():
        if key in CHOICES:
            continue
        node, leaf = found(config, key)
        if isinstance(node[leaf], ConfigDict):
            keys = ", ".join(sorted(node[leaf]))
            raise InputError(f"config.{key} is a part of the configuration; its keys: {keys}")
        try:
            node[leaf] = _value(value, node[leaf], node.get_type(leaf)) if isinstance(value, str) else value
        except (ValueError, TypeError) as error:
            raise InputError(f"config.{key}={value}: {error}") from error
    with config.unlocked():
        config.components = outside(config)
    return config


def _value(text: str, old: Any, kind: type) -> Any:
    """A value of a type from its text."""
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in _WORDS:
            raise ValueError("it must be true or false")
        return _WORDS[text.lower()]
    if old is None and text.lower() == "none":
        return None
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"it must be a {'whole ' if kind is int else ''}number") from None
    if kind in (tuple, list):
        return _items(text, old)
    raise ValueError("its value cannot be given here")


def _items(text: str, old: Sequence[Any]) -> tuple[Any, ...]:
    """Several values, as Python writes them or with commas between; numbers as they are, else words."""
    try:
        value = ast.literal_eval(text.strip() or "()")
    except (ValueError, SyntaxError):
        value = tuple(word.strip() for word in text.strip("()").split(",") if word.strip())
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return tuple(map(float, values)) if old and all(isinstance(one, float) for one in old) else values
