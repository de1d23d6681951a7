"""Classifiers by the name of their encoder: with random weights, or with those of a file."""

import fnmatch
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from fcam_jax.component import at_key
from fcam_jax.errors import InputError
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.encoders import ENCODERS
from fcam_jax.models.heads import HEADS
from fcam_jax.models.import_weights import advising, count_classes, load_classifier
from fcam_jax.runtime.random import OfWeights, stream

_FINE_STRIDE = 8  # of a network that is trained from scratch: that of F-CAM, section 4.1


def list_models(pattern: str = "*") -> list[str]:
    """The names of the encoders that `create_model` takes.

    Args:
      pattern: of shells, such as ``"resnet*"``.
    """
    return fnmatch.filter(ENCODERS, pattern)


def create_model(
    name: str,
    weights: str | pathlib.Path | None = None,
    num_classes: int | None = None,
    final_stride: int | None = None,
    *,
    head: str = "wgap",
    dtype: DTypeLike = jnp.float32,
    seed: int = 0,
) -> Classifier:
    """A classifier: an encoder, and a head that scores its top stage.

    It is called with RGB in [0, 255], ``[b, h, w, 3]``, and ``train=``; it returns the stages and the class scores.

    Args:
      name: of the encoder, one of `list_models`.
      weights: file, or folder, of pretrained weights (docs/models.md); without it weights are random.
      num_classes: number of class scores. By default as many as the file has, whose classification layer is kept then;
        with another number the layer is a new one.
      final_stride: side of the image over the side of the top map: 8, 16 or 32. By default the one that published
        weights were trained at, and 8 where weights are random.
      head: of the classifier, such as ``"wgap"`` or ``"wildcat"``, with its default settings.
      dtype: of the computation; parameters and class scores are float32.
      seed: of the random weights.

    Raises:
      InputError: a name is not known, a number is outside its range, or the file does not fit; nothing is loaded then.
    """
    there = None if weights is None else count_classes(weights)
    classes = there if num_classes is None else num_classes
    if classes is None:
        known = "no weights are given" if weights is None else f"weights {weights}: it has no classification layer"
        raise InputError(f"num_classes is needed: {known}")
    if not isinstance(classes, int | np.integer) or classes < 1:
        raise InputError(f"num_classes is {classes!r}; it must be at least 1, and whole")
    build: Any = ENCODERS[name]
    build_head: Any = HEADS[head]
    if final_stride is None:
        final_stride = _published_stride(name) if weights is not None else _FINE_STRIDE
    key = jax.random.key(seed)

    def encoder() -> Encoder:
        return build(final_stride=final_stride, dtype=dtype, rngs=nnx.Rngs(stream(key, OfWeights.ENCODER)))

    body = encoder() if weights is None else nnx.eval_shape(encoder)  # random values take longer than those of a file
    rngs = nnx.Rngs(stream(key, OfWeights.HEAD))
    with at_key("head: "):
        model = Classifier(body, build_head(body.channels[-1], classes, dtype=dtype, rngs=rngs))
    if weights is not None:
        with advising(encoder="create_model({!r}, ...)", head="another num_classes than {} starts with a new layer"):
            if load_classifier(model, weights, keep_head=classes == there).untouched:
                model.encoder = encoder()  # with values for the layers that the file lacks
                load_classifier(model, weights, keep_head=classes == there)
    return model


def _published_stride(name: str) -> int:
    build: Any = ENCODERS[name]
    return int(getattr(build, "func", build).published_stride)  # of a family, with its depth or width
