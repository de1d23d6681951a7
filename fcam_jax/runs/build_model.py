"""From the parts of a ConfigDict that describe a network to it, its weights, CAM and loss; for `build.py`."""

import logging

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from fcam_jax.cams.fusion import Fused, fused
from fcam_jax.component import at_key
from fcam_jax.configuration.components import member, own
from fcam_jax.configuration.keys import part
from fcam_jax.configuration.settings import DECODER_CENTER, INIT_HEAD
from fcam_jax.errors import InputError
from fcam_jax.losses import LOSSES, PixelAlignment, Weighted
from fcam_jax.losses.classification import ONE_CLASS
from fcam_jax.methods.classifier import ClassifierTraining
from fcam_jax.models.batch_norm import freeze_norms
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.encoders import dilated
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.import_weights import Imported, advising, load_classifier, load_decoder
from fcam_jax.runtime.random import OfWeights, stream, weight_keys

logger = logging.getLogger(__name__)

HEAD_OF_METHODS = "wgap"  # what model.head.name is where the method of stage 1 has a head of its own
_OF_EVERY_TERM = ("weight", "start", "end")


def classifier(config: ConfigDict) -> Classifier:
    """The classifier with random weights, under the head of its method or, where that has none, the chosen one.

    Raises:
      InputError: a head is chosen, but the method has its own.
    """
    body = encoder(config)
    name, rngs = config.model.head.name, _rngs(config.seed, OfWeights.HEAD)
    dtype = jnp.dtype(part(config, "model").dtype)
    way = method(config.classifier)
    num_classes = way.classes(config.data.num_classes)
    if num_classes == 1 and way.has_classes:
        raise InputError(f"data.num_classes is 1: {ONE_CLASS}")
    if way.own_head and name != HEAD_OF_METHODS:
        raise InputError(
            f"model.head.name is {name!r}, but classifier.method={config.classifier.method} has a head of its own; "
            f"leave model.head.name at {HEAD_OF_METHODS!r}"
        )
    head = way.head(body, num_classes, dtype=dtype, rngs=rngs)
    if head is None:
        build_head = member("model.head.name", name)
        settings = own(config.model.head, name)
        with at_key(f"config.model.head.{name}."):
            head = build_head(body.channels[-1], num_classes, **settings, dtype=dtype, rngs=rngs)
    return way.extend(Classifier(body, head), dtype=dtype, rngs=rngs)


def method(settings: ConfigDict) -> ClassifierTraining:
    """How stage 1 is trained."""
    kind = member("classifier.method", settings.method)
    with at_key(f"classifier.{settings.method}."):
        return kind(**own(settings, settings.method))


def encoder(config: ConfigDict) -> Encoder:
    """The encoder with random weights, as the method of stage 1 wants it."""
    model = part(config, "model")
    build_encoder = member("model.encoder", model.encoder)
    of_method = method(config.classifier).encoder_settings(build_encoder)
    with at_key("config.model."):
        body = build_encoder(
            final_stride=model.final_stride,
            **dilated(build_encoder, model.dilate),
            **own(config.model, model.encoder) | of_method,
            dtype=jnp.dtype(model.dtype),
            rngs=_rngs(config.seed, OfWeights.ENCODER),
        )
    if part(config, "classifier").frozen_norms:
        with at_key("config.classifier."):
            freeze_norms(body)
    return body


def decoder(config: ConfigDict, body: Encoder) -> Decoder:
    """The decoder with random weights for the stages of an encoder."""
    model = part(config, "model")
    center = DECODER_CENTER[model.decoder_center]
    with at_key("config.model.decoder_"):
        return Decoder(
            body.channels,
            body.strides,
            model.decoder_widths,
            center=body.decoder_center if center is None else center,
            neck=model.decoder_neck,
            reconstruction=alignment(config.fcam.loss).needs_image,
            dtype=jnp.dtype(model.dtype),
            rngs=_rngs(config.seed, OfWeights.DECODER),
        )


def pretrained_classifier(model: ConfigDict, network: Classifier) -> Imported | None:
    """Weights of the file that the configuration names, if it names one, into the classifier."""
    keep_head = INIT_HEAD[model.init_head]
    if not model.init:
        logger.info("no model.init: the classifier is trained from scratch")
        return None
    with advising(encoder="--config.model.encoder={}", head="--config.model.init_head=drop starts with a new one"):
        imported = load_classifier(network, model.init, keep_head=keep_head)
    fate = {"left out": "left out, a new one is trained (config.model.init_head=keep takes it)"}
    logger.info(
        "classifier initialised from %s; classification layer %s", model.init, fate.get(imported.head, imported.head)
    )
    if imported.untouched:
        logger.info("new layers, trained from scratch: %s", ", ".join(imported.untouched))
    return imported


def pretrained_decoder(init: str, network: Decoder) -> Imported | None:
    """Weights of the file that the configuration names, if it names one, into the decoder."""
    return load_decoder(network, init) if init else None


def fcam(config: ConfigDict, trained: Classifier) -> FCAM:
    """F-CAM with an untrained decoder on a trained classifier."""
    fitted = part(config, "fcam.search").options()
    if part(config, "fcam").remedy:
        fitted |= alignment(config.fcam.loss).flooding
    return FCAM(trained, decoder(config, trained.encoder), fitted)


def check_frozen(config: ConfigDict) -> None:
    """Refuse to keep what changes, and to train classifier and decoder together where that cannot be.

    Raises:
      InputError: the classifier that is trained has an objective of its own, or what it made before is kept; kept are
        features of images that are augmented, or CAMs twice.
    """
    if config.fcam.features and config.cam.cache:
        raise InputError("fcam.features keeps the CAMs of its crops, too: set cam.cache=False")
    if config.fcam.features and config.data.augment:
        raise InputError(
            f"fcam.features keeps what the classifier makes of images, which data.augment={config.data.augment} "
            "changes at every step: set one of them to nothing"
        )
    joint = [(name, one) for name, one in alignment(config.fcam.loss).active.items() if one.term.trains_classifier]
    if not joint:
        return
    key = f"fcam.loss.{joint[0][0]}.weight is {joint[0][1].weight}"
    if not method(config.classifier).plain:
        raise InputError(
            f"{key}, but classifier.method={config.classifier.method} trains the classifier in a way of its own; "
            "set the weight to 0, or classifier.method=cam"
        )
    if config.cam.cache:
        raise InputError(f"{key}, but cam.cache keeps CAMs of the classifier as it was before: set cam.cache=False")
    if config.fcam.features:
        raise InputError(f"{key}, but fcam.features keeps maps of the classifier as it was before: set fcam.features=0")


def _rngs(seed: int, part: OfWeights) -> nnx.Rngs:
    """Randomness of the initial weights of one part of the model."""
    return weight_keys(stream(jax.random.key(seed), part))


def cam(settings: ConfigDict, body: Encoder) -> Fused:
    """The CAM of the chosen stages of an encoder."""
    kind = member("cam.name", settings.name)
    with at_key(f"config.cam.{settings.name}."):
        chosen = kind(**own(settings, settings.name))
    with at_key("config.cam."):
        return fused(chosen, settings.stages, len(body.channels), body.cam_stage)


def alignment(loss: ConfigDict) -> PixelAlignment:
    """The pixel alignment loss, its terms in the order of `LOSSES`; one that is absent is off.

    Raises:
      InputError: for a term that does not exist, a weight below 0, an end that is not after the start, or another
        setting outside its range.
    """
    for name in loss:
        LOSSES[name]  # an unknown name is told
    terms = {}
    for name, component in LOSSES.items():
        if name in loss:
            settings = loss[name].to_dict()
            schedule = {key: settings.pop(key) for key in _OF_EVERY_TERM}
            with at_key(f"config.fcam.loss.{name}."):
                terms[name] = Weighted(component(**settings), **schedule)
    return PixelAlignment(terms)
