"""A configuration as it is recorded, nested dicts of JSON data, by dotted keys: settings and what differs in them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

# Settings at the value that does what was done before there was the setting: with or without it, a run is the same.
SAME_WITHOUT = {"data.folder.mask_undecided": -1.0}


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a recorded configuration by their dotted keys."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def setting(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None where a configuration, perhaps of another version, lacks it."""
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def settings_key(config: Mapping[str, Any], *without: str) -> str:
    """A text that is equal for configurations which are equal but for the keys that are named."""
    return json.dumps({key: value for key, value in flat_settings(config) if key not in without}, sort_keys=True)


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], free: tuple[str, ...], there: str, here: str
) -> list[str]:
    """Where two configurations differ, as text, by keys that do not begin as any of the free ones."""
    before, after = (SAME_WITHOUT | dict(flat_settings(config)) for config in (old, new))
    return [
        f"{key}: {before.get(key, 'absent')} {there}, {after.get(key, 'absent')} {here}"
        for key in sorted(before.keys() | after.keys())
        if not key.startswith(free) and before.get(key, "absent") != after.get(key, "absent")
    ]
