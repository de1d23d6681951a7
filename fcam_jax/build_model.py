"""From the parts of a ConfigDict that describe a network to the network, its weights and its CAM; for `build.py`."""

import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from fcam_jax.cams.contract import Cam
from fcam_jax.cams.registry import CAMS, bind
from fcam_jax.errors import unknown_name
from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import HEADS
from fcam_jax.models.import_weights import Imported, load_classifier, load_decoder

logger = logging.getLogger(__name__)

INIT_HEAD = {"drop": False, "keep": True}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def classifier(model: ConfigDict, num_classes: int, seed: int) -> Classifier:
    """The classifier with random weights."""
    body = encoder(model, seed)
    build_head = look_up("model.head.name", model.head.name, HEADS)
    settings = model.head[model.head.name].to_dict()
    dtype = look_up("model.dtype", model.dtype, DTYPES)
    return Classifier(body, build_head(body.channels[-1], num_classes, **settings, dtype=dtype, rngs=_rngs(seed, 1)))


def encoder(model: ConfigDict, seed: int) -> Encoder:
    """The encoder with random weights."""
    dtype = look_up("model.dtype", model.dtype, DTYPES)
    build_encoder = look_up("model.encoder", model.encoder, ENCODERS)
    return build_encoder(final_stride=model.final_stride, dtype=dtype, rngs=_rngs(seed, 0))


def decoder(model: ConfigDict, body: Encoder, seed: int) -> Decoder:
    """The decoder with random weights for the stages of an encoder."""
    dtype = look_up("model.dtype", model.dtype, DTYPES)
    return Decoder(
        body.channels,
        body.strides,
        tuple(model.decoder_widths),
        center=model.decoder_center,
        dtype=dtype,
        rngs=_rngs(seed, 2),
    )


def pretrained_classifier(model: ConfigDict, network: Classifier) -> Imported | None:
    """Weights of the file that the configuration names, if it names one, into the classifier."""
    keep_head = look_up("model.init_head", model.init_head, INIT_HEAD)
    if not model.init:
        logger.info("no model.init: the classifier is trained from scratch")
        return None
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


def fcam(model: ConfigDict, trained: Classifier, seed: int) -> FCAM:
    """F-CAM with an untrained decoder on a trained classifier."""
    return FCAM(trained, decoder(model, trained.encoder, seed))


def _rngs(seed: int, part: int) -> nnx.Rngs:
    """Randomness of the initial weights of one part of the model."""
    return nnx.Rngs(jax.random.fold_in(jax.random.key(seed), part))


def cam(settings: ConfigDict, body: Encoder) -> Cam:
    """The CAM of the chosen stages of an encoder."""
    look_up("cam.name", settings.name, CAMS)
    return bind(settings.name, settings[settings.name].to_dict(), tuple(settings.stages), len(body.channels))


def look_up(key: str, name: str, known: Mapping[str, Any]) -> Any:
    """What a registry holds under a name; the error names the configuration key."""
    if name not in known:
        raise unknown_name(f"config.{key}", name, known)
    return known[name]
