"""The options --config=configs/NAME.py[:args] and --config.key=value: parsed, with every mistake in one line."""

import difflib
import pathlib
import re
from collections.abc import Mapping, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from fcam_jax.errors import InputError

# What the flag library raises for mistakes on the command line and for names that a benchmark file gets wrong.
_MISTAKES = (flags.Error, AttributeError, KeyError, ValueError, TypeError, ImportError, OSError)


def configuration(config: str, overrides: Mapping[str, str]) -> ConfigDict:
    """The configuration that these options stand for, as the program sees it when it is called with them.

    Args:
      config: value of the option --config.
      overrides: values of the options --config.key, by key.

    Raises:
      InputError: there is no such benchmark file, it fails, or an override names no key of it or has no fitting value.
    """
    argv = ["", f"--config={config}", *(f"--config.{key}={value}" for key, value in overrides.items())]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    parse(argv, values)
    return values["config"].value


def given(argv: Sequence[str]) -> dict[str, str]:
    """The options of a command line with a value, by name."""
    return dict(re.findall(r"^--?([\w.]+)[=\n](.*)$", "\n".join(argv), flags=re.MULTILINE))


def parse(argv: Sequence[str], values: flags.FlagValues) -> list[str]:
    """Parse a command line, of which the first word is the program, into flags of which one is `config`.

    Returns:
      The words that are no options.

    Raises:
      InputError: for whatever is wrong on it or in the benchmark file that it names.
    """
    options = given(argv)
    path = options.get("config", "").partition(":")[0]
    overrides = [name for name in options if name.startswith("config.")]
    if overrides and not path:
        raise InputError(f"--{overrides[0]} changes a benchmark's value: it needs --config=configs/NAME.py too")
    if "config" in options and not pathlib.Path(path).is_file():
        raise InputError(f"--config: no such benchmark file: {path!r}")
    try:
        return values(argv)
    except _MISTAKES as error:
        if path and not isinstance(error, flags.Error):
            _check_keys(options, values)
        raise InputError(_last_message(str(error))) from error


def _check_keys(options: Mapping[str, str], values: flags.FlagValues) -> None:
    """Raise for the first option that names no key of the configuration, where that can be loaded at all."""
    try:
        config = values["config"].parser.parse(options["config"])
    except _MISTAKES:
        return
    for option in options:
        _check_key(option, config)


def _check_key(option: str, config: ConfigDict) -> None:
    """Raise where an option config.a.b names what the configuration does not hold."""
    node = config
    for name in option.split(".")[1:]:
        known = sorted(node) if isinstance(node, ConfigDict) else []
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(f"unknown configuration key {option}: {hint}known: {', '.join(known) or 'none'}")
        node = node[name]


def _last_message(text: str) -> str:
    """The text in one line; of a quoted traceback only the exception's own message."""
    return re.sub(
        r"Error whilst parsing config file: Traceback .*?\b\w+(?:Error|Exception): ", "", " ".join(text.split())
    )
