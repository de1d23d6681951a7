"""The trainings of an experiment: every stage on the one before it.

In: an `Experiment`. Out, in the run's folder: `<stage>/checkpoints`, `<stage>/metrics.jsonl`, events, and
pictures of what training sees.
"""

import dataclasses
import logging
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from fcam_jax.data.pipeline import Known
from fcam_jax.errors import InputError
from fcam_jax.evaluation.evaluator import evaluate
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.methods.contract import LAST
from fcam_jax.methods.fcam import Judgement
from fcam_jax.methods.soundness import CONTRADICTED
from fcam_jax.runs.class_names import save_names
from fcam_jax.runs.folder import TAKEN_FROM, RunFolder, has_begun, record_left_out
from fcam_jax.runs.plan import Experiment, Stage
from fcam_jax.runs.report.pictures import save_training_batch
from fcam_jax.runs.report.training_pictures import training_pictures
from fcam_jax.runtime import hosts, preemption, watchdog
from fcam_jax.runtime.random import OfRun, order_seed, stream
from fcam_jax.training.checkpoint import CHECKPOINTS, LATEST, Progress
from fcam_jax.training.choice import noise
from fcam_jax.training.loop import Training, Validate, is_finished, train
from fcam_jax.training.placed import REPLICATED, Placed, data_mesh
from fcam_jax.training.search import Score, found_settings
from fcam_jax.training.step import TrainState, initial_state, make_train_step
from fcam_jax.types import Batch

logger = logging.getLogger(__name__)

SHOWN = 16  # images of the picture of a training batch
JUDGED = 256  # training images by which candidates are compared where there are no boxes


def check_length(plan: Experiment, folder: pathlib.Path) -> None:
    """Raise an `InputError` where a stage of the run in a folder is trained beyond the end that it would now have."""
    for stage in plan.stages:
        latest = (folder / stage.name / CHECKPOINTS / LATEST).glob("*")
        step = max((int(path.name) for path in latest if path.name.isdecimal()), default=0)
        if step > stage.loop.steps and not (folder / stage.name / TAKEN_FROM).exists():
            raise InputError(
                f"{stage.name} is trained to step {step} already, and {stage.loop.epochs} epochs end at step "
                f"{stage.loop.steps}; ask for as many epochs or more"
            )


def train_stages(plan: Experiment, run: RunFolder, training_hash: str = "") -> None:
    """Train every stage that is not finished yet.

    The folder is opened for training. `training_hash` names, in checkpoints, the settings that the training depends on.

    Raises:
      InputError: for bad data, a checkpoint that cannot be used, or a loss that is not finite.
      Preempted: it was asked to stop.
    """
    plan.check_split("train")
    for stage in plan.stages:
        if run.stage(stage.name).progress is None:
            stage.check_pretrained()  # now, not after the hours that an earlier stage takes
    if plan.frozen is not None:
        plan.frozen.check(run.cams)
    mesh = data_mesh(plan.data.batch_size, plan.train.accumulate)
    record_left_out(plan.data.left_out(), run.path)
    if hosts.is_first():
        _show_data(plan, run)
    model: Any = None
    for of, stage in zip(OfRun, plan.stages, strict=False):  # the last may be missing
        preemption.stop_if_requested()
        folder, model = run.stage(stage.name), stage.build_model(model)
        progress = folder.progress
        if progress is None and (imported := stage.load_pretrained(model)) is not None:
            folder.record_pretrained(dataclasses.asdict(imported))
        kept = None
        if plan.frozen and stage.frozen and not (progress and is_finished(progress, stage.loop)):
            kept = plan.frozen.load(model, stage.method, stage.frozen, run.cams)
        if folder.taken_from is None:
            training = _training(plan, stage, model, mesh, of, kept, folder.path, training_hash)
            if progress is None and stage.search and stage.search.updates and stage.judge:
                options = stage.search.options(by_boxes=stage.loop.selection != LAST)
                score = _score(plan, stage, model, stage.judge, training, stage.search.by)
                training = found_settings(training, options, stage.search.start, stage.search.updates, score)
            train(training, folder.checkpoints)
            _warn_of_chance(plan, stage, folder.progress)
        else:
            logger.info("%s: that of %s is taken", stage.name, folder.taken_from["taken_from"])
        model, _ = folder.trained(model, stage.method)
        record_left_out(plan.data.left_out(), run.path)


def _warn_of_chance(plan: Experiment, stage: Stage, progress: Progress | None) -> None:
    """Tell where the classifier that is kept knows no more of the classes than chance does, as an untrained one."""
    if progress is None or "top1_cls" not in progress.best_metrics or not isinstance(stage.method, ClassifierMethod):
        return
    top1, images = (progress.best_metrics.get(name, math.inf) for name in ("top1_cls", "images"))
    chance = 100 / plan.data.sources["val"].num_classes
    if top1 <= chance + noise(chance, images):
        logger.warning(
            "%s: the model that is kept, of step %d, is best by %s, but top1_cls is %.1f on val, chance's %.1f; "
            "with config.validation.selection=top1_cls the best classifier is kept",
            *(stage.name, progress.best_step, stage.loop.selection, top1, chance),
        )


def _training(
    plan: Experiment,
    stage: Stage,
    model: Any,
    mesh: Mesh,
    of: OfRun,
    kept: Known | None,
    folder: pathlib.Path,
    training_hash: str,
) -> Training:
    """All that a stage is trained with; `of` is its stream of random numbers."""
    placed, optimizer = Placed.split(model, stage.method, mesh), stage.optimizer()
    how = plan.train
    rng = stream(jax.random.key(plan.seed), of)
    return Training(
        state=initial_state(placed, optimizer),
        step=make_train_step(
            placed, stage.method, optimizer, plan.data.augment, accumulate=how.accumulate, remat=how.remat
        ),
        stream=plan.data.stream(order_seed(plan.seed, of), kept),
        validate=_validation(plan, stage, model),
        mesh=mesh,
        rng=rng,
        directory=folder,
        settings=stage.loop,
        config=training_hash,
        image_name=plan.data.image_name,
        watch=stage.watch,
        on_epoch=training_pictures(placed, stage, plan.data, plan.seed, rng, folder / "pictures"),
    )


def _score(
    plan: Experiment,
    stage: Stage,
    model: nnx.Module,
    judge: Callable[[Any, Batch], Judgement],
    training: Training,
    by: str,
) -> Score:
    """What candidates for the settings of a stage are compared by: the figure `by`, or the one that chooses its best
    model; where neither is known, the normalised cut of training images by their maps, negative.

    A map that explains the seeds no better than chance cuts nothing well: above ln 2 the seeds' cross-entropy counts.
    Where boxes count it does from that of a flood on, which hits many boxes where objects fill their images.
    """
    judged = Placed.split(model, stage.method, training.mesh).forward(judge)
    everywhere = NamedSharding(training.mesh, REPLICATED)  # so that every host has the same
    means = jax.jit(lambda found: jnp.stack([found.seeds.mean(), found.cut.mean()]), out_shardings=everywhere)
    begin, batches = training.stream.get_state(), math.ceil(JUDGED / plan.data.batch_size)
    selection = stage.loop.selection

    def score(state: TrainState) -> dict[str, float]:
        training.stream.set_state(begin)  # the same images for every candidate
        found = jax.device_get([means(judged(state, next(training.stream))) for _ in range(batches)])
        seeds, cut = (float(figure) for figure in np.mean(found, axis=0))
        validated = training.validate(state)
        blind = selection == LAST
        figure, limit = (-cut, math.log(2)) if blind else (validated.get(by, validated[selection]), CONTRADICTED)
        return {**validated, "seeds": seeds, "cut": cut, "score": figure if seeds <= limit else -1 - seeds}

    return score


def _show_data(plan: Experiment, run: RunFolder) -> None:
    """What the run is trained on, for people: the classes' names, and a batch as the network sees it."""
    names, augment = plan.data.class_names, plan.data.augment
    if not has_begun(run.path):  # a run keeps the classes that it was begun with
        save_names(run.path, names)
    if run.training_batch.exists():
        return
    try:
        batch, annotations = plan.data.sample(min(SHOWN, plan.data.sizes["train"]), plan.seed)
    except InputError:
        return  # training will tell, once it has saved where it stands
    images = jnp.asarray(batch.images)
    if augment is not None:
        images = augment(jax.random.split(jax.random.key(plan.seed), len(images)), images)
    save_training_batch(run.training_batch, np.asarray(images), annotations, names)


def _validation(plan: Experiment, stage: Stage, model: nnx.Module) -> Validate:
    """Metrics of a training state on the validation split; none where there is no such split."""
    if "val" not in plan.data.sizes:
        return lambda state: {}
    placed = Placed.split(model, stage.method, data_mesh(plan.evaluation.batch_size))
    localize = placed.localize({stage.row: stage.method.localize})

    def validate(state: TrainState) -> dict[str, float]:
        found = evaluate(
            lambda batch: localize(state, batch),
            watchdog.each(plan.batches("val", f"{stage.name} val"), "validation batch"),
            plan.validation.wanted,
        )[stage.row]
        return found.metrics | {"images": float(found.images - found.without_object)}

    return validate
