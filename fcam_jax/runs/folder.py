"""The record of a run in its folder: the resolved configuration, which a later call must not contradict."""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from fcam_jax.configuration.flat import differences, flat_settings
from fcam_jax.errors import InputError
from fcam_jax.runtime import hosts
from fcam_jax.runtime.files import replace_file
from fcam_jax.runtime.lock import held
from fcam_jax.train.checkpoint import CHECKPOINTS

# Settings that may change between calls on one folder: they do not alter what is trained.
FREE_KEYS = (
    "components",
    "evaluation.",
    "data.name",
    "data.root",
    "data.cache_gigabytes",
    "data.on_error",
    "cam.cache_dir",
    "fcam.pictures_epochs",
    "last_stage",
    "log_steps",
    "train.checkpoint_steps",
    "train.watchdog_seconds",
)


@contextlib.contextmanager
def occupied(workdir: pathlib.Path) -> Iterator[None]:
    """Keep other calls out of a run's folder, which is made where it does not exist.

    Raises:
      InputError: another call is at work there, or the folder cannot be written to.
    """
    complaint = (
        f"--workdir={workdir} is in use by another call; wait for its end, or use another --workdir "
        "(--mode=eval --checkpoint=PATH looks at a run that is going on)"
    )

    def enter() -> None:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(workdir / "lock", complaint))
        except OSError as error:
            raise InputError(f"--workdir={workdir} cannot be used: {error.strerror} ({error.filename})") from error

    with contextlib.ExitStack() as stack:
        hosts.of_first(enter)
        yield


def claim(workdir: pathlib.Path, config: Mapping[str, Any]) -> str:
    """Write the configuration to `config.json`, or check that it agrees with the one that is there.

    A folder without a checkpoint holds nothing to contradict: its record is replaced, so that a call that failed for a
    mistake can be repeated without it. Of several processes the first does so, and all have what it finds.

    Args:
      workdir: folder of the run; made where it does not exist.
      config: the resolved configuration as nested dicts.

    Returns:
      The configuration's hash, 12 hexadecimal digits.

    Raises:
      InputError: when the folder holds a run of another configuration; the message says what differs. When it cannot
        be written to.
    """
    hosts.of_first(lambda: _claim(workdir, config))
    return config_hash(config)


def _claim(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    path = workdir / "config.json"
    text = _text(config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists() and any(workdir.glob(f"*/{CHECKPOINTS}/*/*")):
            _check(workdir, _read(path), json.loads(text))
        replace_file(path, text + "\n")
    except OSError as error:
        raise InputError(f"--workdir={workdir} cannot be used: {error.strerror} ({error.filename})") from error


def config_hash(config: Mapping[str, Any]) -> str:
    """The hash of a resolved configuration, 12 hexadecimal digits, by which its results name it."""
    return hashlib.sha256(_text(config).encode()).hexdigest()[:12]


def training_hash(config: Mapping[str, Any]) -> str:
    """The hash of the settings that must not change between calls on one folder, by which checkpoints name them."""
    settings = {key: value for key, value in flat_settings(config) if not key.startswith(FREE_KEYS)}
    return config_hash(settings)


def recorded(workdir: pathlib.Path) -> dict[str, Any]:
    """The configuration of the run in a folder.

    Raises:
      InputError: the folder holds no run.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise InputError(f"--workdir={workdir} holds no run: there is no {path}")
    return _read(path)


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, sort_keys=True)


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); use another --workdir") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} does not hold a configuration; use another --workdir")
    return record


def _check(workdir: pathlib.Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changed = differences(old, new, FREE_KEYS, "there", "now")
    if changed:
        raise InputError(
            f"--workdir={workdir} holds a run of another configuration ({'; '.join(changed)}); "
            "use another --workdir or the same settings"
        )
