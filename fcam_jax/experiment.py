"""The whole job: every stage trained on the one before it, its best model evaluated, results and pictures written.

In: an `Experiment` of plain objects. Out, in the run's folder: `<stage>/checkpoints`, `<stage>/metrics.jsonl` and
events, `results.json`, `pictures/`.
"""

import dataclasses
import json
import logging
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from fcam_jax.evaluation.evaluator import Evaluation, EvaluationSettings, evaluate
from fcam_jax.evaluation.insertion_deletion import WithInsertionDeletion
from fcam_jax.methods.baselines import Localizer
from fcam_jax.methods.contract import Method
from fcam_jax.models.import_weights import Imported
from fcam_jax.progress import counted
from fcam_jax.report.examples import save_pictures
from fcam_jax.report.record import save_record
from fcam_jax.report.results import results_table
from fcam_jax.train.checkpoint import BEST, CHECKPOINTS, Checkpoints, saved_progress
from fcam_jax.train.loop import DataStream, LoopSettings, Validate, train
from fcam_jax.train.optimizer import OptimizerSettings, learning_rate_schedule, sgd
from fcam_jax.train.step import (
    TrainState,
    data_mesh,
    initial_state,
    make_localize,
    make_train_step,
    replicate,
    split_model,
    spread,
)
from fcam_jax.types import Annotation, Batch

logger = logging.getLogger(__name__)

PRETRAINED = "pretrained.json"

EvaluationBatches = Iterator[tuple[Batch, list[Annotation]]]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
      name: its folder.
      row: what the tables call its maps.
      baselines: other ways to localize with its model, by what the tables call them.
      build_model: the model with random weights, from the trained model of the stage before it (None for the first).
      check_pretrained: raises where `load_pretrained` would, without a model.
      load_pretrained: replaces random weights by pretrained ones, before the stage's first step; returns a record of
        where they came from, or None.
      method: what is trained.
      optimizer: how.
      loop: how long.
    """

    name: str
    row: str
    baselines: dict[str, Localizer]
    build_model: Callable[[Any], nnx.Module]
    check_pretrained: Callable[[], object]
    load_pretrained: Callable[[Any], Imported | None]
    method: Method
    optimizer: OptimizerSettings
    loop: LoopSettings


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Stages, data and evaluation of a run.

    Attributes:
      seed: of all randomness but the data set's own.
      batch_size: images of a training step, over all devices.
      stages: in the order in which they build on each other.
      training_stream: a fresh stream of training batches, for the number of a stage.
      evaluation_batches: the batches of a split, each image once.
      split_sizes: images of each split.
      evaluation_batch_size: images of an evaluation batch.
      validation: what is measured while training.
      evaluation: what is measured for the results.
      pictures: number of images in the grid.
      examples: number of images that the report can show.
      record: facts about the run's inputs that belong into its results.
    """

    seed: int
    batch_size: int
    stages: tuple[Stage, ...]
    training_stream: Callable[[int], DataStream]
    evaluation_batches: Callable[[str], EvaluationBatches]
    split_sizes: dict[str, int]
    evaluation_batch_size: int
    validation: EvaluationSettings
    evaluation: EvaluationSettings
    pictures: int
    examples: int
    record: dict[str, Any]


def train_stages(plan: Experiment, workdir: pathlib.Path) -> None:
    """Train every stage that is not finished yet.

    Raises:
      InputError: for bad data or a checkpoint that cannot be used.
    """
    for stage in plan.stages:
        if not has_begun(stage, workdir):
            stage.check_pretrained()  # now, not after the hours that an earlier stage takes
    mesh = data_mesh(plan.batch_size)
    model: Any = None
    for number, stage in enumerate(plan.stages):
        model = stage.build_model(model)
        if not has_begun(stage, workdir):
            _record_pretrained(stage.load_pretrained(model), workdir / stage.name)
        schedule = learning_rate_schedule(stage.optimizer, stage.loop.steps_per_epoch)
        optimizer = sgd(stage.optimizer, schedule, stage.method.learning_rate_factor)
        train(
            initial_state(model, stage.method, optimizer, mesh),
            make_train_step(model, stage.method, optimizer, mesh),
            plan.training_stream(number),
            _validation(plan, stage, model),
            mesh,
            jax.random.fold_in(jax.random.key(plan.seed), number),
            workdir / stage.name,
            stage.loop,
        )
        model, _ = trained_model(stage, model, workdir)


def has_begun(stage: Stage, workdir: pathlib.Path) -> bool:
    """Whether a stage's training has at least begun: its folder holds a checkpoint."""
    folder = _checkpoints(stage, workdir)
    return folder.is_dir() and saved_progress(folder) is not None


def trained_model(
    stage: Stage, model: nnx.Module, workdir: pathlib.Path, kind: str = BEST, step: int | None = None
) -> tuple[nnx.Module, dict[str, Any]]:
    """A stage's model as trained, and the record ("step", "val") of its checkpoint.

    Args:
      stage: the stage.
      model: a model of the stage's structure.
      workdir: the run's folder.
      kind: "best" or "latest".
      step: that of the checkpoint; by default the best one, or the newest.

    Raises:
      InputError: when the stage has no such checkpoint, or one that cannot be used.
    """
    checkpoints = Checkpoints(_checkpoints(stage, workdir))
    try:
        structure, params, rest = split_model(model, stage.method)
        params, rest, record = checkpoints.restore_model(params, rest, kind, step)
        return nnx.merge(structure, params, rest), record
    finally:
        checkpoints.close()


def evaluate_stages(plan: Experiment, workdir: pathlib.Path, config_hash: str, split: str = "test") -> str:
    """Evaluate every stage's best model, and the baselines on it; write results, records for the report and pictures.

    Args:
      plan: the experiment.
      workdir: the run's folder. Another split than test goes into a folder of its own there, by its name.
      config_hash: names the configuration in the results.
      split: the images to evaluate.

    Returns:
      The table of results, for people.

    Raises:
      InputError: when a stage is not trained, or for bad data.
    """
    model: Any = None
    evaluations: dict[str, Evaluation] = {}
    checkpoints = {}
    started = time.monotonic()
    for stage in plan.stages:
        model, record = trained_model(stage, stage.build_model(model), workdir)
        checkpoints[stage.row] = {"stage": stage.name, **record}
        evaluations |= evaluate_model(plan, stage, model, record, split)
    facts = {
        "checkpoints": checkpoints,
        "pretrained": _pretrained(plan, workdir),
        "config_hash": config_hash,
        "evaluation_seconds": round(time.monotonic() - started, 1),
    }
    return write_results(plan, workdir if split == "test" else workdir / split, evaluations, facts, split)


def evaluate_model(
    plan: Experiment, stage: Stage, model: nnx.Module, record: dict[str, Any], split: str
) -> dict[str, Evaluation]:
    """Evaluate a stage's model, and the baselines on it, in one pass over a split.

    Args:
      plan: data and settings.
      stage: what the model was trained by.
      model: as trained.
      record: of its checkpoint, see `trained_model`; the threshold that its validation chose is reported on.
      split: the images to evaluate.

    Returns:
      Evaluations by the table's rows.

    Raises:
      InputError: for bad data.
    """
    mesh = data_mesh(plan.evaluation_batch_size)
    _, *variables = split_model(model, stage.method)
    params, rest = replicate(variables, mesh)
    localizers = stage.baselines | {stage.row: stage.method}
    if "InsertionDeletion" in plan.evaluation.also:
        steps = plan.evaluation.insertion_deletion_steps
        localizers = {row: WithInsertionDeletion(localizer, steps) for row, localizer in localizers.items()}
    localize = make_localize(model, stage.method, {row: one.localize for row, one in localizers.items()}, mesh)
    # A baseline was not validated, so there is no threshold that validation chose.
    tau = record["val"].get("MaxBoxAcc_threshold")
    return evaluate(
        lambda batch: localize(params, rest, spread(batch, mesh)),
        counted(plan.evaluation_batches(split), f"{split} {stage.row}", _batches(plan, split), "batch"),
        plan.evaluation,
        keep=_spaced(plan.split_sizes[split], max(plan.pictures, plan.examples)),
        val_thresholds={} if tau is None else {stage.row: tau},
    )


def write_results(
    plan: Experiment, out: pathlib.Path, evaluations: dict[str, Evaluation], facts: dict[str, Any], split: str
) -> str:
    """Write `results.json`, the records for the report, and pictures; one host writes for all.

    Args:
      plan: the experiment.
      out: the folder to write to.
      evaluations: by the table's rows.
      facts: what else belongs into the results.
      split: the images that were evaluated.

    Returns:
      The table of results, for people.
    """
    stages = [stage.row for stage in plan.stages if stage.row in evaluations]
    metrics = {row: evaluation.metrics for row, evaluation in evaluations.items()}
    table = results_table(metrics, stages[0], stages[-1], split)
    if jax.process_index() > 0:
        return table
    results = {
        "split": split,
        "images": plan.split_sizes[split],
        "methods": metrics,
        "intervals_95": {row: evaluation.intervals for row, evaluation in evaluations.items()},
        "by_size": {row: evaluation.by_size for row, evaluation in evaluations.items()},
        "by_class": {row: evaluation.by_class for row, evaluation in evaluations.items()},
        **facts,
        **plan.record,
    }
    for row, evaluation in evaluations.items():
        save_record(out, row, evaluation, images=plan.split_sizes[split], split=split)
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    save_pictures(out / "pictures", {row: evaluations[row] for row in stages}, plan.pictures)
    logger.info(
        "boxes below are at the thresholds that are best on %s; at validation's, and intervals: %s",
        split,
        out / "results.json",
    )
    return table


def _validation(plan: Experiment, stage: Stage, model: nnx.Module) -> Validate:
    """Metrics of a training state on the validation split."""
    mesh = data_mesh(plan.evaluation_batch_size)
    localize = make_localize(model, stage.method, {stage.row: stage.method.localize}, mesh)

    def validate(state: TrainState) -> dict[str, float]:
        batches = counted(plan.evaluation_batches("val"), f"{stage.name} val", _batches(plan, "val"), "batch")
        return evaluate(
            lambda batch: localize(state.params, state.rest, spread(batch, mesh)), batches, plan.validation
        )[stage.row].metrics

    return validate


def _record_pretrained(imported: Imported | None, directory: pathlib.Path) -> None:
    """Keep what a stage started from beside its checkpoints."""
    if imported is not None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / PRETRAINED).write_text(json.dumps(dataclasses.asdict(imported), indent=2) + "\n")


def _pretrained(plan: Experiment, workdir: pathlib.Path) -> dict[str, Any]:
    """What each stage started from, with the files' checksums; stages that started from scratch are absent."""
    paths = {stage.row: workdir / stage.name / PRETRAINED for stage in plan.stages}
    return {row: json.loads(path.read_text()) for row, path in paths.items() if path.is_file()}


def _checkpoints(stage: Stage, workdir: pathlib.Path) -> pathlib.Path:
    return workdir / stage.name / CHECKPOINTS


def _batches(plan: Experiment, split: str) -> int:
    return math.ceil(plan.split_sizes[split] / plan.evaluation_batch_size)


def _spaced(total: int, count: int) -> frozenset[int]:
    """`count` positions spread evenly over a split, so that they show many classes."""
    return frozenset(int(index) for index in np.linspace(0, total - 1, min(count, total)))
