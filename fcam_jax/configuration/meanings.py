"""What the keys of a configuration mean, for the help of the command line."""

import textwrap

from ml_collections import ConfigDict

from fcam_jax.component import meanings_of
from fcam_jax.configuration.components import CHOICES, LOSS, at, member
from fcam_jax.configuration.flat import flat_settings
from fcam_jax.configuration.keys import PARTS
from fcam_jax.losses import LOSSES, Weighted

_INDENT = " " * 10


def keys_text(config: ConfigDict) -> str:
    """The keys of a configuration with their values and meanings, and what can be chosen."""
    meanings = _meanings(config)
    lines = ["keys of this configuration:", ""]
    for key, value in flat_settings(config.to_dict()):
        lines.append(f"  --config.{key}={value}")
        texts = [meanings.get(key, "")]
        if key in CHOICES:
            texts.append(f"one of {', '.join(CHOICES[key])}; a choice brings settings of its own")
        text = "; ".join(text.rstrip(".") for text in texts if text)
        lines += textwrap.wrap(text, 110, initial_indent=_INDENT, subsequent_indent=_INDENT)
    off = [name for name in LOSSES if name not in config.fcam.loss]
    if off:
        lines += ["", f"terms of the loss that are off: {', '.join(off)}; --config.{LOSS}.NAME.weight=... adds one"]
    return "\n".join(lines)


def _meanings(config: ConfigDict) -> dict[str, str]:
    """By key, from the docstrings of the parts and of the chosen components."""
    found: dict[str, str] = {}
    for path, part in PARTS.items():
        found |= {f"{path}.{name}".lstrip("."): text for name, text in meanings_of(part).items()}
    for name in config.fcam.loss:
        found |= {
            f"{LOSS}.{name}.{setting}": text
            for setting, text in (meanings_of(Weighted) | meanings_of(LOSSES[name])).items()
        }
    for key in CHOICES:
        node, leaf = at(config, key)
        component = meanings_of(member(key, node[leaf]))
        found |= {f"{key.rpartition('.')[0]}.{node[leaf]}.{name}": text for name, text in component.items()}
    return found
