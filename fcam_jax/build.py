"""From a ConfigDict to plain objects with named arguments. Nothing else in the program sees a ConfigDict.

An unknown name, a missing file or a setting outside its range fails here, before the first step.
"""

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from fcam_jax.build_model import (
    INIT_HEAD,
    cam,
    classifier,
    decoder,
    encoder,
    fcam,
    look_up,
    pretrained_classifier,
    pretrained_decoder,
)
from fcam_jax.cams.score_maps import CONVENTIONS
from fcam_jax.data.folder import FolderSource
from fcam_jax.data.pipeline import evaluation_batches, train_batches, whole_batches
from fcam_jax.data.source import Source
from fcam_jax.data.synthetic import SyntheticSource
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.evaluation.evaluator import EXTRAS, EvaluationSettings
from fcam_jax.experiment import EvaluationBatches, Experiment, Stage
from fcam_jax.losses.pixel_alignment import PixelAlignment, Term
from fcam_jax.methods.baselines import Center, Decision
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.methods.fcam import FCAMMethod
from fcam_jax.seeds.sampling import SeedSettings
from fcam_jax.train.cam_cache import WholeCams
from fcam_jax.train.feed import DataStream
from fcam_jax.train.loop import LoopSettings
from fcam_jax.train.optimizer import OptimizerSettings
from fcam_jax.types import Batch

logger = logging.getLogger(__name__)

# Least values of the settings that nothing else checks before it is too late for a clear message.
LEAST = {
    "seed": 0,
    "log_steps": 1,
    "data.batch_size": 1,
    "data.size": 1,
    "data.num_classes": 1,
    "classifier.epochs": 0,
    "fcam.epochs": 0,
    "evaluation.batch_size": 1,
    "evaluation.pictures": 0,
    "evaluation.examples": 0,
    "evaluation.bootstrap": 0,
    "evaluation.insertion_deletion_steps": 1,
}


def experiment(config: ConfigDict) -> Experiment:
    """The experiment that a configuration describes.

    Raises:
      InputError: for a name that does not exist, data that is not there, or a setting outside its range.
    """
    _check_ranges(config)
    splits = {split: source(config.data, split) for split in ("train", "val", "test")}
    sizes = {split: len(records) for split, records in splits.items()}
    if config.data.batch_size > sizes["train"]:
        raise InputError(f"data.batch_size is {config.data.batch_size}; the train split has {sizes['train']} images")
    steps_per_epoch = math.ceil(sizes["train"] / config.data.batch_size)

    def training_stream(stage: int, cams: np.ndarray | None = None) -> DataStream:
        return train_batches(
            splits["train"],
            batch_size=config.data.batch_size,
            resize=config.data.resize,
            crop=config.data.size,
            seed=int(np.random.SeedSequence((config.seed, stage)).generate_state(1)[0] >> 1),
            cache_bytes=int(config.data.cache_gigabytes * 2**30),
            cams=cams,
        )

    def batches(split: str) -> EvaluationBatches:
        return evaluation_batches(
            splits[split],
            batch_size=config.evaluation.batch_size,
            size=config.data.size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def whole(positions: Sequence[int]) -> Iterator[Batch]:
        return whole_batches(
            splits["train"], positions, batch_size=config.evaluation.batch_size, size=config.data.resize
        )

    return Experiment(
        seed=config.seed,
        batch_size=config.data.batch_size,
        stages=(classifier_stage(config, steps_per_epoch), fcam_stage(config, steps_per_epoch)),
        training_stream=training_stream,
        whole_cams=WholeCams(
            batches=whole,
            count=sizes["train"],
            batch_size=config.evaluation.batch_size,
            of=_cam_facts(config) | {"images": splits["train"].fingerprint},
            folder=config.cam.cache_dir,
        )
        if config.cam.cache
        else None,
        evaluation_batches=batches,
        split_sizes=sizes,
        evaluation_batch_size=config.evaluation.batch_size,
        validation=EvaluationSettings(config.validation.threshold_step),
        evaluation=EvaluationSettings(
            config.evaluation.threshold_step,
            also=_extras(config.evaluation.also),
            bootstrap=config.evaluation.bootstrap,
            parts=True,
            insertion_deletion_steps=config.evaluation.insertion_deletion_steps,
        ),
        pictures=config.evaluation.pictures,
        examples=config.evaluation.examples,
        record={"encoder": config.model.encoder, "cam": config.cam.name, "image_size": config.data.size},
    )


def recorded_experiment(record: Mapping[str, Any]) -> Experiment:
    """The experiment of a configuration that a run records.

    Raises:
      InputError: as `experiment`; the record lacks a key that this version of the program knows.
    """
    with _of_this_version():
        return experiment(ConfigDict(dict(record)))


def recorded_stages(record: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a run from the configuration that its folder records, to load their models; no data is needed.

    Raises:
      InputError: the record lacks a key that this version of the program knows.
    """
    config = ConfigDict(dict(record))
    with _of_this_version():
        return classifier_stage(config, 1), fcam_stage(config, 1)


@contextlib.contextmanager
def _of_this_version() -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError) as error:
        raise InputError(f"the run's config.json is of another version of this program: {error}") from error


def source(data: ConfigDict, split: str) -> Source:
    """The records of a split."""
    if data.source == "folder" and not data.root:
        raise InputError("data.root is empty; give the folder that holds images/ and metadata/: --config.data.root=DIR")
    builders: dict[str, Callable[[], Source]] = {
        "synthetic": lambda: SyntheticSource(
            split=split,
            size=data.size,
            count=data.synthetic[split],
            num_classes=data.num_classes,
            seed=data.synthetic.seed,
        ),
        "folder": lambda: FolderSource(split=split, root=data.root, num_classes=data.num_classes),
    }
    return look_up("data.source", data.source, builders)()


def classifier_stage(config: ConfigDict, steps_per_epoch: int) -> Stage:
    """Stage 1: the classifier on its encoder's pretrained weights."""
    look_up("cam.convention", config.cam.convention, CONVENTIONS)
    look_up("model.init_head", config.model.init_head, INIT_HEAD)
    # A mistake in the network's settings is told now, before the run's folder is taken.
    network = nnx.eval_shape(lambda: classifier(config.model, config.data.num_classes, config.seed))
    method = ClassifierMethod(
        cam=cam(config.cam, network.encoder),
        cam_convention=config.cam.convention,
        new_layers=(("head",), *(("encoder", name) for name in network.encoder.new_layers)),
        new_layers_factor=config.classifier.new_layers_factor,
    )
    return Stage(
        name="classifier",
        row="CAM",
        baselines={"Center": Center()},
        build_model=lambda _: classifier(config.model, config.data.num_classes, config.seed),
        check_pretrained=lambda: None,  # the first stage loads them before anything else
        load_pretrained=lambda network: pretrained_classifier(config.model, network),
        whole_maps=None,
        method=method,
        optimizer=OptimizerSettings(**config.classifier.optimizer),
        loop=_loop(config, "classifier", config.classifier.epochs, steps_per_epoch),
    )


def fcam_stage(config: ConfigDict, steps_per_epoch: int) -> Stage:
    """Stage 2: the decoder on the frozen classifier."""
    body = nnx.eval_shape(lambda: encoder(config.model, config.seed))
    # A mistake is told now, not after stage 1.
    untrained = nnx.eval_shape(lambda: decoder(config.model, body, config.seed))
    method = FCAMMethod(
        cam=cam(config.cam, body),
        seeds=SeedSettings(**config.fcam.seeds),
        alignment=alignment(config.fcam.loss),
        steps_per_epoch=steps_per_epoch,
    )
    return Stage(
        name="fcam",
        row="F-CAM",
        baselines={"F-CAM, no threshold": Decision(method)},
        build_model=lambda trained: fcam(config.model, trained, config.seed),
        check_pretrained=lambda: pretrained_decoder(config.fcam.init, untrained),
        load_pretrained=lambda network: pretrained_decoder(config.fcam.init, network.decoder),
        whole_maps=method.whole_maps,
        method=method,
        optimizer=OptimizerSettings(**config.fcam.optimizer),
        loop=_loop(config, "fcam", config.fcam.epochs, steps_per_epoch),
    )


def _cam_facts(config: ConfigDict) -> dict[str, Any]:
    """What a CAM of a whole training image depends on besides the image and the weights."""
    name = config.cam.name
    network = {key: value for key, value in config.model.to_dict().items() if key not in ("init", "init_head")}
    return {
        "cam": name,
        "settings": config.cam[name].to_dict(),
        "stages": list(config.cam.stages),
        "network": network,
        "side": config.data.resize,
    }


def alignment(loss: ConfigDict) -> PixelAlignment:
    """Settings of the pixel alignment loss."""
    return PixelAlignment(
        seeds=_term(loss.seeds),
        crf=_term(loss.crf),
        size=_term(loss.size),
        sigma_xy=loss.crf.sigma_xy,
        sigma_rgb=loss.crf.sigma_rgb,
        crf_stride=loss.crf.stride,
        barrier_start=loss.size.barrier_start,
        barrier_rate=loss.size.barrier_rate,
        barrier_limit=loss.size.barrier_limit,
    )


def _loop(config: ConfigDict, name: str, epochs: int, steps_per_epoch: int) -> LoopSettings:
    return LoopSettings(
        name=name,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        log_steps=config.log_steps,
        selection=config.validation.selection,
    )


def _term(term: ConfigDict) -> Term:
    return Term(weight=term.weight, start_epoch=term.start_epoch, end_epoch=term.end_epoch)


def _extras(names: str) -> tuple[str, ...]:
    extras = tuple(name.strip() for name in names.split(",") if name.strip())
    for name in extras:
        if name not in EXTRAS:
            raise unknown_name("config.evaluation.also", name, EXTRAS)
    return extras


def _check_ranges(config: ConfigDict) -> None:
    for key, least in LEAST.items():
        value = functools.reduce(getattr, key.split("."), config)
        if value < least:
            raise InputError(f"{key} is {value}; it must be at least {least}")
    for part in ("validation", "evaluation"):
        step = config[part].threshold_step
        if not 0 < step <= 1:
            raise InputError(f"{part}.threshold_step is {step}; it must lie in (0, 1]")
