"""A classifier that one run has trained and others take, which then train F-CAM alone.

What stage 1 is trained to depends on neither the CAM nor F-CAM. Which of its epochs is kept does: validation chooses it
by the CAM of the run. So a classifier that is taken is the one that is best for the CAM of the run that trained it, and
the threshold that its validation chose is that CAM's; a run with another CAM, or size of image, is not told it.
"""

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from fcam_jax.configuration.flat import differences, flat_settings, setting
from fcam_jax.data.settings import tested_side
from fcam_jax.errors import InputError
from fcam_jax.runs.class_names import CLASS_NAMES, names_of_run
from fcam_jax.runs.folder import FREE_KEYS, PRETRAINED, TAKEN_FROM, identity, recorded, taken_from
from fcam_jax.runtime.files import link_or_copy, write_record
from fcam_jax.training.checkpoint import BEST, CHECKPOINTS
from fcam_jax.training.metric_log import logged

STAGE = "classifier"

# What says what a classifier is, besides what it was trained by.
_NETWORK = ("model.", "classifier.method", "data.num_classes")
_OF_OTHERS = ("model.decoder_", "model.init", "model.dtype")

# What may differ between a run that trains a classifier and one that takes it: the training depends on none of it.
LATER_KEYS = ("cam.", "fcam.", "model.decoder_", *FREE_KEYS)


def check_same_training(name: str, config: Mapping[str, Any], source_name: str, source: Mapping[str, Any]) -> None:
    """Raise an `InputError` with the keys that differ, where a run would train another than it is to take."""
    changed = differences(source, config, LATER_KEYS, f"in {source_name}", f"in {name}")
    if changed:
        raise InputError(
            f"run {name} cannot take the classifier of {source_name}, which is trained differently "
            f"({'; '.join(changed)}); leave out classifier_of"
        )


def classes_of(run: pathlib.Path, key: str = "workdir") -> list[str | None]:
    """The classes that a run, which a key names, was begun with.

    Raises:
      InputError: the folder holds no run, or the list of its classes was changed.
    """
    count = setting(recorded(run, key), "data.num_classes")
    return names_of_run(run, count if isinstance(count, int) else None)


def check_taken(source: pathlib.Path, config: Mapping[str, Any]) -> bool:
    """Whether a run with the classifier of another one has that one's CAM, on validation images of the same size, too.

    Raises:
      InputError: there is no such run or classifier, it is not trained to its end, or its network is another.
    """
    there, method = recorded(source, "classifier.from_run"), config["classifier"]["method"]
    named = (*_NETWORK, f"classifier.{method}.")
    old, new = ({k: v for k, v in flat_settings(one) if k.startswith(named)} for one in (there, config))
    if changed := differences(old, new, _OF_OTHERS, "there", "here"):
        raise InputError(f"classifier.from_run={source} has another classifier ({'; '.join(changed)})")
    if not any((source / STAGE / CHECKPOINTS / BEST).glob("*")):
        raise InputError(f"classifier.from_run={source}: its classifier is not trained yet")
    ends, epochs = logged(source / STAGE, "val"), setting(there, "classifier.epochs")
    done = len(ends) - 1  # each epoch's end is validated, and the beginning; one that was taken itself has no log
    if ends and isinstance(epochs, int) and done < epochs:
        told = f"its classifier is trained for {done} of {epochs} epochs; finish that run first"
        raise InputError(f"classifier.from_run={source}: {told}")
    return bool(there["cam"] == config["cam"] and tested_side(there["data"]) == tested_side(config["data"]))


def origin(folder: pathlib.Path) -> str | None:
    """The name of the run that has trained the classifier in a run's folder; None where that run has."""
    found = taken_from(folder / STAGE)
    return None if found is None else str(found["taken_from"])


def check_origin(folder: pathlib.Path, classifier_of: str | None) -> None:
    """Raise an `InputError` where the classifier that a run's folder holds is not from where the run would have it."""
    there = origin(folder)
    if (folder / STAGE / CHECKPOINTS).is_dir() and there != classifier_of:
        has, wanted = ("its own" if name is None else f"that of {name}" for name in (there, classifier_of))
        raise InputError(
            f"{folder / STAGE} is {has}, the sweep wants {wanted}; delete {folder} or use another --workdir"
        )


def take_classifier(source: pathlib.Path, folder: pathlib.Path, same_cam: bool) -> None:
    """Put the finished classifier of one run into the folder of another; nothing is done where it is there already.

    Files are hard links where the file system has them: a finished stage is only read. The metric log stays behind.
    With the `same_cam`, what validation has found of the one run's maps holds for the other's.
    """
    stage = folder / STAGE
    if stage.is_dir():
        return
    part = folder / f"{STAGE}.part"  # a copy that was interrupted is never taken for a classifier
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source / STAGE / CHECKPOINTS, part / CHECKPOINTS, copy_function=link_or_copy)
    if (source / STAGE / PRETRAINED).is_file():
        shutil.copy2(source / STAGE / PRETRAINED, part / PRETRAINED)
    if (source / CLASS_NAMES).is_file():
        shutil.copy2(source / CLASS_NAMES, folder / CLASS_NAMES)
    theirs = taken_from(source / STAGE) or {"run": identity(source)}
    facts: dict[str, Any] = {"taken_from": source.name, "run": theirs["run"]}
    if not same_cam or "val" in theirs:
        facts["val"] = {}
    write_record(part / TAKEN_FROM, facts)
    part.rename(stage)
