"""The folder of a run: what lies where in it, the checkpoints of its stages, and the record of its configuration.

A call opens it once (`RunFolder`), so that every checkpoint is verified once, whoever asks for it. The resolved
configuration is recorded there, and a later call must not contradict it.
"""

import contextlib
import functools
import hashlib
import json
import logging
import pathlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from fcam_jax.configuration.flat import SAME_WITHOUT, differences, flat_settings, setting
from fcam_jax.errors import InputError
from fcam_jax.methods.contract import Method
from fcam_jax.runtime import hosts
from fcam_jax.runtime.files import replace_file, write_record
from fcam_jax.runtime.lock import held
from fcam_jax.runtime.records import read_record
from fcam_jax.training import manifest
from fcam_jax.training.checkpoint import BEST, CHECKPOINTS, Checkpoints, Progress
from fcam_jax.training.checkpoint_folder import STEP
from fcam_jax.training.placed import split_model

logger = logging.getLogger(__name__)

PRETRAINED = "pretrained.json"
CONTINUED = "continued.json"
LEFT_OUT = "left_out.txt"
IDENTITY = "run.json"
# In a stage's folder, where its checkpoints are another run's: facts that replace those of their records.
TAKEN_FROM = "taken_from.json"

ANOTHER = "use another folder"

# Settings that may change between calls on one folder: they do not alter what is trained.
FREE_KEYS = (
    "components",
    "evaluation.",
    "data.name",
    "data.root",
    "data.classes",
    "data.cache_gigabytes",
    "data.on_error",
    "cam.cache_dir",
    "fcam.pictures_epochs",
    "last_stage",
    "log_steps",
    "train.checkpoint_steps",
    "train.watchdog_seconds",
)
# They may change when a run is trained, which then is continued, or shortened while it is not so far.
EPOCHS = ("classifier.epochs", "fcam.epochs")


class StageFolder:
    """What a stage leaves in the run's folder.

    Attributes:
      path: the folder.
      checkpoints: opened once.
      taken_from: what replaces facts of their records, where they are another run's.
    """

    def __init__(self, path: pathlib.Path, training: bool, run: str):
        """As `Checkpoints`."""
        self.path, self.taken_from = path, taken_from(path)
        if self.taken_from is not None:
            run = self.taken_from.pop("run")
        self.checkpoints = Checkpoints(path / CHECKPOINTS, training, run=run, stage=path.name)

    @property
    def progress(self) -> Progress | None:
        """Where its training stands, as `Checkpoints.progress`; None where it has not begun."""
        return self.checkpoints.progress()

    def pretrained(self) -> dict[str, Any] | None:
        """What it started from, with the files' checksums; None where that was from scratch."""
        path = self.path / PRETRAINED
        return read_record(path, "the results do without it: delete it") if path.exists() else None

    def record_pretrained(self, record: Mapping[str, Any]) -> None:
        """Keep what it starts from."""
        if hosts.is_first():
            write_record(self.path / PRETRAINED, record)

    def trained(
        self, model: nnx.Module, method: Method, kind: str = BEST, step: int | None = None
    ) -> tuple[nnx.Module, dict[str, Any]]:
        """The model as trained, and the record ("step", "val") of its checkpoint.

        Args:
          model: one of the same structure, of which shapes are enough (`Stage.shapes`).
          kind: "best" or "latest".
          step: that of the checkpoint; by default the best one, or the newest.

        Raises:
          InputError: there is no such checkpoint, or it cannot be used.
        """
        structure, params, rest = split_model(model, method)
        params, rest, record = self.checkpoints.restore_model(params, rest, kind, step)
        return nnx.merge(structure, params, rest), record | (self.taken_from or {})


class RunFolder:
    """The folder of a run, to be opened once by a call and closed at its end (`with`).

    Attributes:
      path: the folder.
      cams: folder of the training images' CAMs, where the run keeps its own.
      training_batch: picture of what is trained on.
    """

    def __init__(self, path: pathlib.Path, training: bool = False):
        """Nothing is read or written yet; a call that is not `training` leaves damaged checkpoints where they are."""
        self.path, self._training = path, training
        self.cams, self.training_batch = path / "cams", path / "pictures" / "training_batch.png"
        self._stages: dict[str, StageFolder] = {}

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as stack:
            for stage in self._stages.values():
                stack.callback(stage.checkpoints.close)

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage, opened when it is first asked for."""
        if name not in self._stages:
            self._stages[name] = StageFolder(self.path / name, self._training, self._identity)
        return self._stages[name]

    def last_trained(self, names: Sequence[str]) -> str | None:
        """The last of some stages that is trained, or being trained; where another is to follow, that is told.

        Raises:
          InputError: a stage has checkpoints, but none to go on from.
        """
        begun = [name for name in names if self.stage(name).progress is not None]
        if begun and begun[-1] != names[-1]:
            logger.warning("%s: the stage %s is not trained yet: %s is taken", self.path, names[-1], begun[-1])
        return begun[-1] if begun else None

    @functools.cached_property
    def _identity(self) -> str:
        found: str = hosts.of_first(lambda: identity(self.path, self._training))
        return found

    def results(self, split: str) -> pathlib.Path:
        """Where figures, records and pictures of a split go."""
        return self.path if split == "test" else self.path / split


def identity(folder: pathlib.Path, training: bool = False) -> str:
    """What tells a run from all others, however its folder is copied or renamed; "" for one of an older version.

    It is drawn when a run begins to train. Where its file is lost, the checkpoints know it.

    Raises:
      InputError: the file is damaged, or is lost and the checkpoints are those of several runs.
    """
    path = folder / IDENTITY
    if path.exists():
        return str(read_record(path, "delete it: the checkpoints know it, too", run=str)["run"])
    found = set()
    for checkpoint in folder.glob(f"*/{CHECKPOINTS}/*/*"):
        if STEP.fullmatch(checkpoint.name) and not (checkpoint.parents[2] / TAKEN_FROM).exists():
            with contextlib.suppress(manifest.DamagedError):
                found.add(manifest.run_of(checkpoint))
    if len(found) > 1:
        raise InputError(f"{folder} holds the checkpoints of several runs; take out those that were put there")
    run = found.pop() if found else secrets.token_hex(6) if training else ""
    if training and run:
        write_record(path, {"run": run})
    return run


def taken_from(stage: pathlib.Path) -> dict[str, Any] | None:
    """Of a stage whose checkpoints are another run's: "taken_from", its name, and "run", its identity; else None."""
    path = stage / TAKEN_FROM
    if not path.exists():
        return None
    optional = {"run": (str, type(None)), "val": (dict, type(None))}
    found = read_record(path, f"delete {stage} to take it again", taken_from=str, **optional)
    return {"run": ""} | {name: value for name, value in found.items() if value is not None}


def record_left_out(lines: Sequence[str], folder: pathlib.Path) -> None:
    """Write what was wrong with each image that was left out so far, if any was, and tell how many there are."""
    if lines:
        path = folder / (LEFT_OUT if hosts.is_first() else f"{jax.process_index()}_{LEFT_OUT}")
        replace_file(path, "".join(f"{line}\n" for line in lines))
        logger.warning("%d image(s) are left out: %s", len(lines), path)


@contextlib.contextmanager
def occupied(workdir: pathlib.Path) -> Iterator[None]:
    """Keep other calls out of a run's folder, which is made where it does not exist.

    Raises:
      InputError: another call is at work there, or the folder cannot be written to.
    """
    complaint = (
        f"workdir={workdir} is in use by another call; wait for its end, or use another folder "
        "(its checkpoints can be evaluated while it goes on)"
    )

    def enter() -> None:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(workdir / "lock", complaint))
        except OSError as error:
            raise InputError(f"workdir={workdir} cannot be used: {error.strerror} ({error.filename})") from error

    with contextlib.ExitStack() as stack:
        hosts.of_first(enter)
        yield


def claim(workdir: pathlib.Path, config: Mapping[str, Any], training: bool = False) -> str:
    """Write the configuration to `config.json`, or check that it agrees with the one that is there.

    A folder without a checkpoint holds nothing to contradict: its record is replaced, so that a call that failed for a
    mistake can be repeated without it. Of several processes the first does so, and all have what it finds. The folder
    is made where it does not exist. A run that is `training` may be trained for another number of epochs than before,
    which is noted in `CONTINUED`. Returns `config_hash`.

    Raises:
      InputError: when the folder holds a run of another configuration; the message says what differs. When it cannot
        be written to.
    """
    hosts.of_first(lambda: _claim(workdir, config, training))
    return config_hash(config)


def _claim(workdir: pathlib.Path, config: Mapping[str, Any], training: bool) -> None:
    path = workdir / "config.json"
    text = _text(config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if has_begun(workdir):
            there = read_record(path, ANOTHER)
            _check(workdir, there, json.loads(text), FREE_KEYS + (EPOCHS if training else ()))
            _note_epochs(workdir, there, config)
        replace_file(path, text + "\n")
    except OSError as error:
        raise InputError(f"workdir={workdir} cannot be used: {error.strerror} ({error.filename})") from error


def has_begun(workdir: pathlib.Path) -> bool:
    """Whether a run's folder has a record and a checkpoint, and so holds something to contradict."""
    return (workdir / "config.json").is_file() and any(workdir.glob(f"*/{CHECKPOINTS}/*/*"))


def config_hash(config: Mapping[str, Any]) -> str:
    """The hash of a resolved configuration, 12 hexadecimal digits, by which its results name it."""
    return hashlib.sha256(_text(config).encode()).hexdigest()[:12]


def training_hash(config: Mapping[str, Any]) -> str:
    """The hash of the settings that must not change between calls on one folder, by which checkpoints name them."""
    settings = {key: value for key, value in flat_settings(config) if not key.startswith(FREE_KEYS + EPOCHS)}
    return config_hash({key: value for key, value in settings.items() if SAME_WITHOUT.get(key) != value})


def recorded(workdir: pathlib.Path, key: str = "workdir") -> dict[str, Any]:
    """The configuration of the run in a folder, which a key names.

    Raises:
      InputError: the folder holds no run.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise InputError(f"{key}={workdir} holds no run: there is no {path}")
    return read_record(path, ANOTHER)


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, sort_keys=True)


def _note_epochs(workdir: pathlib.Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Tell and note that a run is trained for another number of epochs than it was begun with.

    Raises:
      InputError: F-CAM stands on the classifier as it was.
    """
    changed = {key: [setting(old, key), setting(new, key)] for key in EPOCHS if setting(old, key) != setting(new, key)}
    if not changed:
        return
    of_classifier, fcam = EPOCHS[0], workdir / "fcam"
    if of_classifier in changed and any(fcam.glob(f"{CHECKPOINTS}/*/*")):
        raise InputError(
            f"{of_classifier}: {fcam} stands on the classifier of {changed[of_classifier][0]} epochs; delete that "
            "folder to train F-CAM anew on a longer trained one, or use another folder"
        )
    for key, (before, now) in changed.items():
        logger.info("%s: continued from %s to %s epochs", key.partition(".")[0], before, now)
    write_record(workdir / CONTINUED, {"epochs": [*continued(workdir), changed]})


def continued(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """By key, from and to how many epochs the run in a folder was continued, each time."""
    path = workdir / CONTINUED
    if not path.exists():
        return []
    return list(read_record(path, "the results do without it: delete it", epochs=list)["epochs"])


def _check(workdir: pathlib.Path, old: Mapping[str, Any], new: Mapping[str, Any], free: tuple[str, ...]) -> None:
    changed = differences(old, new, free, "there", "now")
    if changed:
        of_fcam = all(key.startswith(("fcam.", "cam.")) for key in changed)
        other = f" (--config.classifier.from_run={workdir} takes this classifier there)" if of_fcam else ""
        raise InputError(
            f"workdir={workdir} holds a run of another configuration ({'; '.join(changed)}); "
            f"use another folder{other} or the same settings"
        )
