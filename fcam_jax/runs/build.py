"""From a ConfigDict to plain objects with named arguments. Nothing else in the program sees a ConfigDict.

An unknown name, a missing file or a setting outside its range fails here, before the first step.
"""

import contextlib
import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import optax
from flax import nnx
from ml_collections import ConfigDict

from fcam_jax.component import at_key
from fcam_jax.configuration.command_line import override
from fcam_jax.configuration.components import import_components, own
from fcam_jax.configuration.keys import of_today, part
from fcam_jax.data.classes import ClassNames
from fcam_jax.data.settings import tested_side
from fcam_jax.errors import InputError
from fcam_jax.methods.baselines import Center, Decision
from fcam_jax.methods.classifier import ClassifierMethod, SeedMaps, new_layers
from fcam_jax.methods.fcam import FCAMMethod
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.import_weights import Imported
from fcam_jax.runs.build_classes import label_space
from fcam_jax.runs.build_data import chosen, data_set
from fcam_jax.runs.build_model import (
    alignment,
    cam,
    check_frozen,
    classifier,
    decoder,
    fcam,
    method,
    pretrained_classifier,
    pretrained_decoder,
)
from fcam_jax.runs.data import Data
from fcam_jax.runs.plan import Experiment, Stage
from fcam_jax.runs.report.paper import DECISION_ROW
from fcam_jax.runs.selection import check_asked_for, selected
from fcam_jax.runtime.text import first_line
from fcam_jax.training.frozen_cache import FrozenCache, half
from fcam_jax.training.optimizer import Optimizer, OptimizerChoice
from fcam_jax.training.settings import LoopSettings

logger = logging.getLogger(__name__)


def experiment(config: ConfigDict, of_run: ClassNames | None = None, evaluated: str | None = None) -> Experiment:
    """The experiment that a configuration describes.

    Args:
      of_run: the classes of the run, once it has begun: labels are numbered by them.
      evaluated: the split to evaluate, where nothing is trained: then the data need not serve a training.

    Raises:
      InputError: for a name that does not exist, data that is not there, or a setting outside its range.
    """
    config = resolved(config, of_run)
    train, validation, evaluation = (part(config, name) for name in ("train", "validation", "evaluation"))
    watched = any(one.needs_classes for one in evaluation.device_measures)
    if watched and not method(config.classifier).has_classes:
        why = f"InsertionDeletion watches a class score, and classifier.method={config.classifier.method} has none"
        raise InputError(f"evaluation.also: {why}")
    data = data_set(config, label_space(config, of_run), of_run, evaluated)
    images = 0 if evaluated else data.sizes.get("train", 0)
    if 0 < images < config.data.batch_size:
        text = f"data.batch_size is {config.data.batch_size}; there are {images} images to train on"
        raise InputError(f"{text} (--config.data.batch_size={min(images, 8)})")
    stages = _stages(config, _epoch(images, config.data.batch_size, train.least_updates))
    if evaluated is None:
        stages = tuple(selected(stage, data.sources.get("val")) for stage in stages)
    if (split := evaluated or "test") in data.sources:
        check_asked_for(evaluation, data.sources[split], f"the {split} split")

    return Experiment(
        seed=config.seed,
        stages=stages,
        data=data,
        train=train,
        frozen=_frozen_cache(config, data) if images and len(stages) > 1 else None,
        validation=validation,
        evaluation=evaluation,
        record={
            "encoder": config.model.encoder,
            "method": config.classifier.method,
            "cam": config.cam.name,
            "image_size": config.data.size,
            "test_size": tested_side(config.data),
        },
    )


def _frozen_cache(config: ConfigDict, data: Data) -> FrozenCache | None:
    """How what stage 2 takes of the frozen classifier is computed once; None where it is computed at every step."""
    crops = config.fcam.features
    if not crops and not config.cam.cache:
        return None
    of = _cam_facts(config) | {"images": data.sources["train"].fingerprint}
    if crops:
        of |= {"crops": crops, "seed": config.seed, "size": config.data.size}
    return FrozenCache(
        key="fcam.features" if crops else "cam.cache",
        batches=data.kept,
        count=len(data.sources["train"]) * (crops or 1),
        batch_size=config.evaluation.batch_size,
        side=config.data.size if crops else config.data.resize,
        of=of,
        folder=config.cam.cache_dir,
    )


def _epoch(images: int, batch_size: int, least: int) -> int:
    """Updates of an epoch: once through the images, or, where that are too few, several times."""
    steps = math.ceil(images / batch_size)
    if 0 < steps < least:
        passes = least * batch_size / images
        logger.info("an epoch is %d updates: %.3g passes over %d images (train.least_updates)", least, passes, images)
    return max(steps, least)


def recorded_experiment(
    record: Mapping[str, Any], of_run: ClassNames | None = None, evaluated: str | None = None
) -> Experiment:
    """The experiment of a configuration that a run records; arguments as of `experiment`.

    Raises:
      InputError: as `experiment`; the record lacks a key that this version of the program knows.
    """
    with of_this_version():
        import_components(record)
        return experiment(ConfigDict(of_today(record)), of_run, evaluated)


def recorded_stages(record: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a run from the configuration that its folder records, to load their models; no data is needed.

    Raises:
      InputError: the record lacks a key that this version of the program knows.
    """
    with of_this_version():
        import_components(record)
        return _stages(ConfigDict(of_today(record)), 1)


def changed(record: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a run records with other values, by key; raises as `override`."""
    with of_this_version():
        import_components(record)
        return dict(override(ConfigDict(of_today(record)), values).to_dict())


@contextlib.contextmanager
def of_this_version() -> Iterator[None]:
    """Within this, a value of a recorded configuration that cannot be used is told in one line."""
    try:
        yield
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"the run's config.json is damaged, or of another version of this program: {first_line(error)}"
        ) from error


def resolved(config: ConfigDict, of_run: ClassNames | None = None) -> ConfigDict:
    """The configuration with what it leaves to files filled in: the number of classes, where it is 0, from the run,
    once it has begun, or the data; that of a network that stays as it is from its weights.

    Raises:
      InputError: the data or the weights are not there or cannot be used.
    """
    config = config.copy_and_resolve_references()
    way, stage = method(config.classifier).resolved(config.model.init), config.classifier
    if stage.method in stage:
        stage[stage.method].update(dataclasses.asdict(way))
    if way.epochs is not None:
        stage.epochs = way.epochs
    if way.whole_file:
        config.model.init_head = "keep"
    classes = label_space(config, of_run)
    if config.data.num_classes == 0 and classes is not None:
        config.data.num_classes = len(classes)
    if config.data.num_classes == 0:
        data = chosen(config)
        config.data.num_classes = data.open(data.splits()[0]).num_classes
    return config


def _stages(config: ConfigDict, steps_per_epoch: int) -> tuple[Stage, ...]:
    """The classifier and, where it is wanted, F-CAM on it; never on one without classes, as F-CAM learns from the CAM
    of the true one.
    """
    for name in ("", "model", "cam"):
        part(config, name)
    # A mistake in the networks' settings is told now, before the run's folder is taken.
    network = nnx.eval_shape(lambda: classifier(config))
    first = classifier_stage(config, network, steps_per_epoch)
    alone = config.last_stage == "classifier" or not method(config.classifier).has_classes
    return (first,) if alone else (first, fcam_stage(config, network.encoder, steps_per_epoch))


def classifier_stage(config: ConfigDict, network: Classifier, steps_per_epoch: int) -> Stage:
    """Stage 1: the classifier on its encoder's pretrained weights, or a baseline in its place; `network` its shapes."""
    way = method(config.classifier)
    by = cam(config.cam, network.encoder)
    if way.by_cam:
        with at_key(f"config.cam.name={config.cam.name}: "):
            by.cam.check(network)
    settings = part(config, "classifier")
    rule = _optimizer(config, "classifier")
    loop = _loop(config, "classifier", settings.epochs, steps_per_epoch)
    trained_by = ClassifierMethod(
        cam=by,
        cam_convention=config.cam.convention,
        new_layers=new_layers(network),
        new_layers_factor=settings.new_layers_factor,
        training=way,
    )

    def load(network: Classifier) -> Imported | None:
        if settings.frozen_norms and not config.model.init:
            why = "keeps the statistics of model.init, which is empty; name weights there, or set it to False"
            raise InputError(f"config.classifier.frozen_norms {why}")
        imported = pretrained_classifier(config.model, network)
        way.load(network)
        return imported

    def optimizer() -> optax.GradientTransformation:
        schedule = rule.schedule(steps_per_epoch, settings.epochs)
        return way.optimizer(rule.update(schedule, trained_by.learning_rate_factor), schedule)

    return Stage(
        name="classifier",
        row=way.title,
        baselines={"Center": Center(classes=way.has_classes)},
        build_model=lambda _: classifier(config),
        load_pretrained=load,  # before all else
        method=trained_by,
        optimizer=optimizer,
        loop=dataclasses.replace(loop, selection=way.selection or loop.selection),
    )


def fcam_stage(config: ConfigDict, body: Encoder, steps_per_epoch: int) -> Stage:
    """Stage 2: the decoder on the classifier, which is frozen unless the loss has a classification term; `body` are the
    shapes of its encoder.
    """
    settings, rule = part(config, "fcam"), _optimizer(config, "fcam")
    untrained = nnx.eval_shape(lambda: decoder(config, body))
    seeds = part(config, "fcam.seeds")
    trained_by = FCAMMethod(
        cam=SeedMaps(method(config.classifier), cam(config.cam, body)),
        seeds=seeds,
        alignment=alignment(config.fcam.loss),
        color=part(config, "fcam.color"),
        classifier_factor=settings.classifier_factor,
        whole_side=config.data.resize,
    )
    check_frozen(config)
    return Stage(
        name="fcam",
        row="F-CAM",
        baselines={DECISION_ROW: Decision(trained_by)},
        build_model=lambda trained: fcam(config, trained),
        load_pretrained=lambda network: pretrained_decoder(settings.init, network.decoder),
        check_pretrained=lambda: pretrained_decoder(settings.init, untrained),
        frozen=trained_by.features if settings.features else half(trained_by.whole_maps),
        method=trained_by,
        optimizer=lambda: rule.update(rule.schedule(steps_per_epoch, settings.epochs), trained_by.learning_rate_factor),
        loop=_loop(config, "fcam", settings.epochs, steps_per_epoch),
        view=trained_by.view,
        watch=trained_by.watch(settings.remedy),
        pictures_epochs=settings.pictures_epochs,
        search=part(config, "fcam.search"),
        judge=trained_by.judge,
    )


def _optimizer(config: ConfigDict, stage: str) -> Optimizer:
    choice: OptimizerChoice = part(config, f"{stage}.optimizer")
    with at_key(f"config.{stage}.optimizer.{choice.name}."):
        return choice.chosen(own(config[stage].optimizer, choice.name))


def _cam_facts(config: ConfigDict) -> dict[str, Any]:
    """What a CAM of a whole training image depends on besides the image and the weights."""
    name = config.cam.name
    network = {key: value for key, value in config.model.to_dict().items() if key not in ("init", "init_head")}
    return {
        "cam": name,
        "settings": own(config.cam, name),
        "stages": list(config.cam.stages),
        "network": network,
        "head": {"method": config.classifier.method, **own(config.classifier, config.classifier.method)},
        "side": config.data.resize,
    }


def _loop(config: ConfigDict, name: str, epochs: int, steps_per_epoch: int) -> LoopSettings:
    return LoopSettings(
        name=name,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        log_steps=config.log_steps,
        selection=config.validation.selection,
        checkpoint_steps=config.train.checkpoint_steps,
        watchdog_seconds=config.train.watchdog_seconds,
    )
