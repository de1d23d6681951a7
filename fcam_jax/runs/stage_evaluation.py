"""What the trained stages of an experiment are worth: their models evaluated, results and pictures written.

In: an `Experiment` and its run's folder. Out, in the folder: `results.json`, `evaluation/` for the report, `pictures/`.
"""

import dataclasses
import logging
import pathlib
import time
from typing import Any

import numpy as np
from flax import nnx

from fcam_jax.evaluation.box_accuracy import chose_none, threshold_of
from fcam_jax.evaluation.device_measure import WithMeasures
from fcam_jax.evaluation.evaluator import evaluate
from fcam_jax.evaluation.gain import gain
from fcam_jax.evaluation.mirrored import Mirrored
from fcam_jax.evaluation.result import Evaluation
from fcam_jax.methods.contract import Localizer
from fcam_jax.runs.class_names import save_names
from fcam_jax.runs.folder import RunFolder, continued, record_left_out
from fcam_jax.runs.plan import Experiment, Stage
from fcam_jax.runs.report.pictures import save_pictures
from fcam_jax.runs.report.record import save_record
from fcam_jax.runs.report.tables import results_table
from fcam_jax.runtime import hosts, provenance, watchdog
from fcam_jax.runtime.files import write_record
from fcam_jax.training.checkpoint import Progress
from fcam_jax.training.placed import Placed, data_mesh

logger = logging.getLogger(__name__)


def evaluate_stages(plan: Experiment, run: RunFolder, config_hash: str, split: str = "test") -> str:
    """Evaluate every stage's best model, and the baselines on it; write results, records for the report and pictures.

    Another split than test goes into a folder of its own, by its name. The hash names the configuration in the results.
    Returns the table of results, for people.

    Raises:
      InputError: when a stage is not trained, or for bad data.
    """
    plan.check_split(split, " to evaluate")
    model: Any = None
    evaluations: dict[str, Evaluation] = {}
    checkpoints, pretrained = {}, {}
    started = time.monotonic()
    for stage in plan.stages:
        folder = run.stage(stage.name)
        model, record = folder.trained(stage.shapes(model), stage.method)
        checkpoints[stage.row] = described(stage, record, **_ended(folder.progress))
        if (start := folder.pretrained()) is not None:
            pretrained[stage.row] = start
        evaluations |= evaluate_model(plan, stage, model, record, split)
    facts = {
        "checkpoints": checkpoints,
        "pretrained": pretrained,
        "continued": continued(run.path),
        "config_hash": config_hash,
        "evaluation_seconds": round(time.monotonic() - started, 1),
    }
    return write_results(plan, run.results(split), evaluations, facts, split)


def evaluate_model(
    plan: Experiment, stage: Stage, model: nnx.Module, record: dict[str, Any], split: str
) -> dict[str, Evaluation]:
    """Evaluate a stage's model, and the baselines on it, in one pass over a split; evaluations by the table's rows.

    The threshold that validation chose, by the record of the model's checkpoint, is reported on.

    Raises:
      InputError: for bad data.
    """
    plan.check_split(split, " to evaluate")
    placed = Placed.split(model, stage.method, data_mesh(plan.evaluation.batch_size)).replicated()
    localizers: dict[str, Localizer] = stage.baselines | {stage.row: stage.method}
    if plan.evaluation.mirrored:
        localizers = {_row(plan, row): Mirrored(one) for row, one in localizers.items()}
    if plan.evaluation.device_measures:
        localizers = {row: WithMeasures(one, plan.evaluation.device_measures) for row, one in localizers.items()}
    localize = placed.localize({row: one.localize for row, one in localizers.items()})
    # A baseline was not validated, so there is no threshold that validation chose.
    tau = threshold_of(record["val"])
    return evaluate(
        lambda batch: localize(placed, batch),
        watchdog.each(plan.batches(split, f"{split} {stage.row}"), "evaluation batch"),
        plan.evaluation.wanted,
        keep=_spaced(plan.data.sizes[split], max(plan.evaluation.pictures, plan.evaluation.examples)),
        val_thresholds={} if tau is None else {_row(plan, stage.row): tau},
    )


def _row(plan: Experiment, row: str) -> str:
    """What a row is called: published figures are of maps without a mirror, and none shall stand beside others."""
    return f"{row}, mirrored" if plan.evaluation.mirrored else row


def described(stage: Stage, record: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """What the results say of a checkpoint: its record, and whose threshold predictions cut its maps at."""
    chosen = threshold_of(record["val"])
    if chose_none(record["val"]):
        logger.warning("%s: validation chose no threshold above 0; predictions cut at the default", stage.row)
    return {"stage": stage.name, **facts, **record, "threshold_by": "validation" if chosen else "default"}


def _ended(progress: Progress | None) -> dict[str, Any]:
    """What was wrong at the end of a training, and after which step it was mended, if it was."""
    found = {} if progress is None else {"marks": progress.marks, "remedied": progress.remedied}
    return {name: value for name, value in found.items() if value}


def write_results(
    plan: Experiment, out: pathlib.Path, evaluations: dict[str, Evaluation], facts: dict[str, Any], split: str
) -> str:
    """Write `results.json` (with the `facts`), the records for the report, and pictures; one host writes for all.

    Evaluations are by the table's rows. Returns the table of results, for people, and a warning where the last stage is
    not better than the first.
    """
    stages = [row for stage in plan.stages if (row := _row(plan, stage.row)) in evaluations]
    first, last = stages[0], stages[-1]
    found = gain(evaluations[first], evaluations[last]) if first != last else None
    facts = facts | {"gain": None if found is None else {"of": last, "over": first, **dataclasses.asdict(found)}}
    hosts.of_first(lambda: _write(plan, out, evaluations, stages, facts, split))
    metrics = {row: evaluation.metrics for row, evaluation in evaluations.items()}
    table = results_table(metrics, first, last, split)
    if found is None or found.better:
        return table
    return f"{table}\n\nwarning: {last} is not surely better than {first}: {found}; see docs/poor_results.md"


def _write(
    plan: Experiment,
    out: pathlib.Path,
    evaluations: dict[str, Evaluation],
    stages: list[str],
    facts: dict[str, Any],
    split: str,
) -> None:
    images = next(iter(evaluations.values())).images
    results = {
        "split": split,
        "images": images,
        "left_out": plan.data.ruled_out[split] + plan.data.sizes[split] - images,
        "methods": {row: evaluation.metrics for row, evaluation in evaluations.items()},
        "intervals_95": {row: evaluation.intervals for row, evaluation in evaluations.items()},
        "by_size": {row: evaluation.by_size for row, evaluation in evaluations.items()},
        "by_class": {row: evaluation.by_class for row, evaluation in evaluations.items()},
        "without_object": next(iter(evaluations.values())).without_object,
        "constant_maps": {row: len(evaluation.constant) for row, evaluation in evaluations.items()},
        **facts,
        **plan.record,
        "program": provenance.program(),
        "machine": provenance.machine(),
    }
    for row, evaluation in evaluations.items():
        for line in evaluation.warnings:
            logger.warning("%s: %s", row, line)
        save_record(out, row, evaluation, images=images, split=split)
    save_names(out, plan.data.class_names)
    write_record(out / "results.json", results)
    record_left_out(plan.data.left_out(), out)
    shown = {row: evaluations[row] for row in stages}
    save_pictures(out / "pictures", shown, plan.evaluation.pictures, plan.data.class_names)
    if evaluations[stages[-1]].best_thresholds:
        logger.info(
            "boxes below are at the thresholds that are best on %s; at validation's, and intervals: %s",
            split,
            out / "results.json",
        )


def _spaced(total: int, count: int) -> frozenset[int]:
    """`count` positions spread evenly over a split, so that they show many classes."""
    return frozenset(int(index) for index in np.linspace(0, total - 1, min(count, total)))
