"""A run from its configuration: trained and evaluated in its folder.

In: the configuration, and the run's folder, which is taken while the job goes on. Out: the table of results.
"""

import copy
import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from fcam_jax.component import path_of
from fcam_jax.configuration import configuration, override
from fcam_jax.data.source import SPLITS
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.runs import build, experiment, stage_evaluation
from fcam_jax.runs import folder as workdir
from fcam_jax.runs.classifiers import STAGE, check_taken, classes_of, take_classifier
from fcam_jax.runtime import hosts, preemption
from fcam_jax.runtime.records import read_record

logger = logging.getLogger(__name__)


def train(config: Any, folder: pathlib.Path, split: str = "test") -> str:
    """Train what is not trained yet, evaluate the best models, and write results and pictures.

    Where the data has no such split to evaluate, the run is trained only. Returns the table of results, for people.

    Raises:
      InputError: for a configuration, data or a folder that cannot be used.
      Preempted: the run was asked to stop.
    """
    return _carried_out(config, folder, split, trained_too=True)


def evaluate(config: Any, folder: pathlib.Path, split: str = "test") -> str:
    """As `train`, for a run that is trained already."""
    return _carried_out(config, folder, split, trained_too=False)


def train_and_evaluate(
    config: Any, workdir: str | os.PathLike[str], values: Mapping[str, Any] | None = None, *, split: str = "test"
) -> dict[str, Any]:
    """Train a run in this process and evaluate it; the same call goes on where an interrupted one stopped.

    Args:
      config: name of a packaged benchmark or path of a file, with an argument after a colon (``"cub:resnet50"``), or
        what `fcam_jax.configuration.defaults` began.
      workdir: folder of the run.
      values: other values by key, such as ``{"fcam.epochs": 2}``.
      split: the images to evaluate.

    Returns:
      What `results.json` in the folder holds; figures under "methods", by row and name, in percent. Empty where the
      data has no such split.

    Raises:
      InputError: for a configuration, data or a folder that cannot be used.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    folder, values = path_of(workdir, "workdir"), {} if values is None else values
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise InputError(f"values is {values!r:.100}; it must have values by key, such as {{'fcam.epochs': 2}}")
    if hasattr(config, "unlocked"):
        chosen = override(copy.deepcopy(config), values)
    else:
        chosen = configuration(str(path_of(config, "config")), values)
    train(chosen, folder, split)
    results = (folder if split == "test" else folder / split) / "results.json"
    return read_record(results, "the same call writes it anew") if results.is_file() else {}


def _carried_out(config: Any, folder: pathlib.Path, split: str, trained_too: bool) -> str:
    of_run = hosts.of_first(lambda: classes_of(folder) if workdir.has_begun(folder) else None)
    config = build.resolved(config, of_run)
    plan = build.experiment(config, of_run, None if trained_too else split)
    preemption.stop_if_requested()
    record = json.loads(json.dumps(config.to_dict()))
    source = pathlib.Path(config.classifier.from_run)
    taken = trained_too and config.classifier.from_run and not (folder / STAGE).is_dir()
    same_cam = taken and check_taken(source, record)
    with workdir.occupied(folder):
        if trained_too:
            hosts.of_first(lambda: experiment.check_length(plan, folder))
        config_hash = workdir.claim(folder, record, training=trained_too)
        if taken:
            hosts.of_first(lambda: take_classifier(source, folder, bool(same_cam)))
            if config.model.init:
                logger.warning("model.init=%s plays no part: the classifier is that of %s", config.model.init, source)
        with workdir.RunFolder(folder, training=trained_too) as run:
            plan.data.tell(known=of_run is not None)
            if trained_too:
                experiment.train_stages(plan, run, workdir.training_hash(record))
                if split not in plan.data.sizes:
                    return f"trained; the data has no {split} split to evaluate. Maps of your images: fcam predict"
            return stage_evaluation.evaluate_stages(plan, run, config_hash, split)
