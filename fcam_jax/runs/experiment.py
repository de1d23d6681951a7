"""The whole job: every stage trained on the one before it, its best model evaluated, results and pictures written.

In: an `Experiment` of plain objects. Out, in the run's folder: `<stage>/checkpoints`, `<stage>/metrics.jsonl` and
events, `results.json`, `pictures/`.
"""

import dataclasses
import json
import logging
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fcam_jax.data.augment import Augment
from fcam_jax.errors import InputError
from fcam_jax.evaluation.evaluator import evaluate
from fcam_jax.evaluation.settings import EvaluationSettings, ValidationSettings
from fcam_jax.methods.baselines import Localizer
from fcam_jax.methods.contract import Method
from fcam_jax.models.import_weights import Imported
from fcam_jax.runs.class_names import save_names
from fcam_jax.runs.report.training_batch import save_training_batch
from fcam_jax.runs.report.training_pictures import IMAGES, PICTURES, Schedule, ViewOf, training_pictures
from fcam_jax.runtime import hosts, preemption, random, watchdog
from fcam_jax.runtime.files import write_record
from fcam_jax.runtime.progress import counted
from fcam_jax.train.cam_cache import WholeCams
from fcam_jax.train.checkpoint import BEST, CHECKPOINTS, Checkpoints, saved_progress
from fcam_jax.train.feed import DataStream
from fcam_jax.train.loop import LoopSettings, OnEpoch, Validate, is_finished, train
from fcam_jax.train.optimizer import OptimizerSettings, learning_rate_schedule, sgd
from fcam_jax.train.step import (
    TrainState,
    data_mesh,
    initial_state,
    make_localize,
    make_train_step,
    split_model,
    spread,
)
from fcam_jax.types import Annotation, Batch

logger = logging.getLogger(__name__)

PRETRAINED = "pretrained.json"
CAMS = "cams"
LEFT_OUT = "left_out.txt"
# In a stage's folder, where its checkpoints are another run's: facts that replace those of their records.
TAKEN_FROM = "taken_from.json"

SHOWN = 16  # images of the picture of a training batch

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
      whole_maps: yields the CAMs of whole images that seeds are drawn from; None where there are no seeds.
      method: what is trained.
      optimizer: how.
      own_optimizer: the update from gradients, given the one of these settings and its rate by step.
      loop: how long.
      view: what training sees of a batch, for pictures; None where there are none.
      pictures_epochs: epochs from one picture to the next; 0 for none.
    """

    name: str
    row: str
    baselines: dict[str, Localizer]
    build_model: Callable[[Any], nnx.Module]
    check_pretrained: Callable[[], object]
    load_pretrained: Callable[[Any], Imported | None]
    whole_maps: Callable[[Any, Batch], jax.Array] | None
    method: Method
    optimizer: OptimizerSettings
    loop: LoopSettings
    own_optimizer: Callable[[Any, Any], Any] = lambda default, schedule: default
    view: ViewOf | None = None
    pictures_epochs: int = 0


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Stages, data and evaluation of a run.

    Attributes:
      seed: of all randomness but the data set's own.
      batch_size: images of a training step, over all devices.
      stages: in the order in which they build on each other.
      training_stream: a fresh stream of training batches, for the number of a stage, with CAMs of the images if given.
      training_sample: a training batch of so many images with its ground truth, to be looked at.
      augment: changes the images that the network is trained on; None where it sees them as they are.
      accumulate: parts that a device takes its share of a batch in.
      remat: whether most maps are computed again for the gradients.
      whole_cams: of the seeds, where they are computed once for each training image; None where they are not.
      evaluation_batches: the batches of a split, each image once.
      training_image: what an image is called, by its position in the training split.
      left_out: what was wrong with each image that was left out so far, a line each.
      class_names: what the classes are called, in the order of the labels; None where the data set does not say.
      split_sizes: images of each split that there is, without those that its description rules out.
      ruled_out: number of the latter.
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
    training_stream: Callable[[int, np.ndarray | None], DataStream]
    training_sample: Callable[[int], tuple[Batch, list[Annotation]]]
    augment: Augment | None
    accumulate: int
    remat: bool
    whole_cams: WholeCams | None
    evaluation_batches: Callable[[str], EvaluationBatches]
    training_image: Callable[[int], str]
    left_out: Callable[[], list[str]]
    class_names: tuple[str, ...] | None
    split_sizes: dict[str, int]
    ruled_out: dict[str, int]
    evaluation_batch_size: int
    validation: ValidationSettings
    evaluation: EvaluationSettings
    pictures: int
    examples: int
    record: dict[str, Any]


def train_stages(plan: Experiment, workdir: pathlib.Path, training_hash: str = "") -> None:
    """Train every stage that is not finished yet.

    Args:
      plan: the experiment.
      workdir: the run's folder.
      training_hash: names the settings that the training depends on in its checkpoints.

    Raises:
      InputError: for bad data, a checkpoint that cannot be used, or a loss that is not finite.
      Preempted: it was asked to stop.
    """
    if "train" not in plan.split_sizes:
        raise InputError(f"the data has no split 'train'; there: {', '.join(plan.split_sizes)}")
    for stage in plan.stages:
        if not has_begun(stage, workdir):
            stage.check_pretrained()  # now, not after the hours that an earlier stage takes
    if plan.whole_cams is not None:
        plan.whole_cams.check(workdir / CAMS)
    mesh = data_mesh(plan.batch_size, plan.accumulate)
    record_left_out(plan, workdir)
    if hosts.is_first():
        _show_data(plan, workdir)
    model: Any = None
    for number, stage in zip(random.OfRun, plan.stages, strict=False):  # the last may be missing
        preemption.stop_if_requested()
        model = stage.build_model(model)
        if not has_begun(stage, workdir):
            _record_pretrained(stage.load_pretrained(model), workdir / stage.name)
        schedule = learning_rate_schedule(stage.optimizer, stage.loop.steps_per_epoch)
        optimizer = stage.own_optimizer(sgd(stage.optimizer, schedule, stage.method.learning_rate_factor), schedule)
        rng = random.stream(jax.random.key(plan.seed), number)
        train(
            initial_state(model, stage.method, optimizer, mesh),
            make_train_step(
                model, stage.method, optimizer, mesh, plan.augment, accumulate=plan.accumulate, remat=plan.remat
            ),
            plan.training_stream(number, _whole_cams(plan, stage, model, workdir)),
            _validation(plan, stage, model),
            mesh,
            rng,
            workdir / stage.name,
            stage.loop,
            training_hash,
            plan.training_image,
            _pictures(plan, stage, model, rng, workdir),
        )
        model, _ = trained_model(stage, model, workdir)
        record_left_out(plan, workdir)


def _show_data(plan: Experiment, workdir: pathlib.Path) -> None:
    """What the run is trained on, for people: the classes' names, and a batch as the network sees it."""
    save_names(workdir, plan.class_names)
    picture = workdir / "pictures" / "training_batch.png"
    if not picture.exists():
        _draw_sample(plan, picture)


def _draw_sample(plan: Experiment, picture: pathlib.Path) -> None:
    try:
        batch, annotations = plan.training_sample(min(SHOWN, plan.split_sizes["train"]))
    except InputError:
        return  # training will tell, once it has saved where it stands
    images = jnp.asarray(batch.images)
    if plan.augment is not None:
        images = plan.augment(jax.random.split(jax.random.key(plan.seed), len(images)), images)
    save_training_batch(picture, np.asarray(images), annotations, plan.class_names)


def _pictures(plan: Experiment, stage: Stage, model: Any, rng: jax.Array, workdir: pathlib.Path) -> OnEpoch:
    """What draws the pictures of a stage's training; of several hosts the first does."""
    if stage.view is None or not stage.pictures_epochs or not hosts.is_first():
        return lambda state, epoch: None
    return training_pictures(
        model,
        stage.method,
        stage.view,
        lambda: plan.training_sample(min(IMAGES, plan.split_sizes["train"])),
        plan.augment,
        rng,
        workdir / stage.name / PICTURES,
        Schedule(stage.pictures_epochs, stage.loop.epochs, stage.loop.steps_per_epoch),
        plan.class_names,
    )


def record_left_out(plan: Experiment, folder: pathlib.Path) -> None:
    """Write what was wrong with each image that was left out so far, if any was, and tell how many there are."""
    lines = plan.left_out()
    if lines:
        path = folder / (LEFT_OUT if hosts.is_first() else f"{jax.process_index()}_{LEFT_OUT}")
        path.write_text("".join(f"{line}\n" for line in lines))
        logger.warning("%d image(s) are left out: %s", len(lines), path)


def _whole_cams(plan: Experiment, stage: Stage, model: Any, workdir: pathlib.Path) -> np.ndarray | None:
    """CAMs of all training images, where a stage is to be trained that takes its seeds from them."""
    if plan.whole_cams is None or stage.whole_maps is None or _is_finished(stage, workdir):
        return None
    return plan.whole_cams.load(model, stage.method, stage.whole_maps, workdir / CAMS)


def _is_finished(stage: Stage, workdir: pathlib.Path) -> bool:
    progress = saved_progress(_checkpoints(stage, workdir)) if has_begun(stage, workdir) else None
    return progress is not None and is_finished(progress, stage.loop)


def has_begun(stage: Stage, workdir: pathlib.Path) -> bool:
    """Whether a stage's training has at least begun: its folder holds a checkpoint."""
    folder = _checkpoints(stage, workdir)
    # One asks for all: to open a folder takes all hosts, and one that is ahead may have just made it.
    return hosts.of_first(folder.is_dir) and saved_progress(folder) is not None


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
        taken_from = workdir / stage.name / TAKEN_FROM
        if taken_from.is_file():
            record |= json.loads(taken_from.read_text())
        return nnx.merge(structure, params, rest), record
    finally:
        checkpoints.close()


def _validation(plan: Experiment, stage: Stage, model: nnx.Module) -> Validate:
    """Metrics of a training state on the validation split; none where there is no such split."""
    if "val" not in plan.split_sizes:
        return lambda state: {}
    mesh = data_mesh(plan.evaluation_batch_size)
    localize = make_localize(model, stage.method, {stage.row: stage.method.localize}, mesh)

    def validate(state: TrainState) -> dict[str, float]:
        batches = counted(plan.evaluation_batches("val"), f"{stage.name} val", batch_count(plan, "val"), "batch")
        return evaluate(
            lambda batch: localize(state.params, state.rest, spread(batch, mesh)),
            watchdog.each(batches, "validation batch"),
            plan.validation.wanted,
        )[stage.row].metrics

    return validate


def _record_pretrained(imported: Imported | None, directory: pathlib.Path) -> None:
    """Keep what a stage started from beside its checkpoints."""
    if imported is not None and hosts.is_first():
        write_record(directory / PRETRAINED, dataclasses.asdict(imported))


def _checkpoints(stage: Stage, workdir: pathlib.Path) -> pathlib.Path:
    return workdir / stage.name / CHECKPOINTS


def batch_count(plan: Experiment, split: str) -> int:
    """Number of evaluation batches of a split."""
    return math.ceil(plan.split_sizes[split] / plan.evaluation_batch_size)
