"""Classifiers by the name of their encoder: with random weights, or with those of a file."""

import fnmatch
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from fcam_jax.component import at_key, path_of
from fcam_jax.errors import InputError
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import FINAL_STRIDES, Encoder
from fcam_jax.models.encoders import ENCODERS, default_stride, dilated, published_stride
from fcam_jax.models.heads import HEADS
from fcam_jax.models.import_weights import (
    DILATE,
    FINAL_STRIDE,
    Imported,
    MisfitError,
    advising,
    count_classes,
    load_classifier,
)
from fcam_jax.models.weight_files import metadata_of
from fcam_jax.models.weights_by_name import located
from fcam_jax.runtime.random import OfWeights, stream, weight_keys


def list_models(pattern: str = "*") -> list[str]:
    """The names of the encoders that `create_model` takes, or those of a pattern of shells, such as ``"resnet*"``."""
    if not isinstance(pattern, str):
        raise InputError(f"pattern is {pattern!r}; it must be a text such as 'resnet*'")
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
    dilate: bool | None = None,
) -> Classifier:
    """A classifier: an encoder, and a head that scores its top stage.

    It is called with RGB in [0, 255], ``[b, h, w, 3]``, and ``train=``; it returns the stages and the class scores.

    Args:
      name: of the encoder, one of `list_models`.
      weights: pretrained ones, by path or by name, such as "torchvision:resnet50" (docs/models.md); without it weights
        are random.
      num_classes: number of class scores. By default as many as the file has, whose classification layer is kept then;
        with another number the layer is a new one.
      final_stride: side of the image over the side of the top map: 8, 16 or 32 (`small`: 8). By default the one that
        the file names, as those of `fcam export` do, else the one that published weights were trained at; 8 where
        weights are random. That of a transformer is its patch.
      head: of the classifier, such as ``"wgap"`` or ``"wildcat"``, with its default settings.
      dtype: of the computation; parameters and class scores are float32.
      seed: of the random weights.
      dilate: dilate the layers behind removed strides (docs/models.md); by default as the file names it, else not.

    Raises:
      InputError: a name is not known, a number is outside its range, or the file does not fit; nothing is loaded then.
    """
    with advising(
        encoder="create_model({!r}, ...)",
        head="another num_classes than {} starts with a new layer",
        layer="give num_classes for a new one",
    ):
        return create(name, weights, num_classes, final_stride, head, dtype, seed, dilate)[0]


def create(
    name: str,
    weights: str | pathlib.Path | None,
    num_classes: int | None,
    final_stride: int | None,
    head: str = "wgap",
    dtype: DTypeLike = jnp.float32,
    seed: int = 0,
    dilate: bool | None = None,
) -> tuple[Classifier, Imported | None]:
    """As `create_model`, with what was taken from the file; a `MisfitError` has no advice yet."""
    build: Any = ENCODERS[name]
    build_head: Any = HEADS[head]
    for argument, value, least in (("num_classes", num_classes, 1), ("seed", seed, 0)):
        if value is not None and (not isinstance(value, int | np.integer) or value < least):
            raise InputError(f"{argument} is {value!r}; it must be at least {least}, and whole")
    try:
        dtype = jnp.dtype(dtype)
    except TypeError:
        raise InputError(f"dtype is {dtype!r}; it must be that of numbers, such as 'bfloat16'") from None
    path = None if weights is None else path_of(weights, "weights")
    if final_stride is None:
        final_stride = default_stride(build) if path is None else _stride_of(build, located(path))
    if dilate is None:
        dilate = path is not None and _named(path, DILATE) == str(True)
    key, how = jax.random.key(seed), dilated(build, dilate)

    def encoder() -> Encoder:
        return build(final_stride=final_stride, **how, dtype=dtype, rngs=weight_keys(stream(key, OfWeights.ENCODER)))

    def classifier(body: Encoder, classes: int) -> Classifier:
        rngs = weight_keys(stream(key, OfWeights.HEAD))
        with at_key("head: "):
            return Classifier(body, build_head(body.channels[-1], classes, dtype=dtype, rngs=rngs))

    if path is None:
        if num_classes is None:
            raise InputError("num_classes is needed: no weights are given")
        return classifier(encoder(), num_classes), None
    body = nnx.eval_shape(encoder)  # random values take longer than those of a file
    there = count_classes(path, body)
    model = classifier(body, num_classes or there or 1)
    keep_head = there is not None and num_classes in (None, there)
    imported = load_classifier(model, path, keep_head=keep_head)
    if there is None and num_classes is None:
        raise MisfitError(f"weights {path}: it has no classification layer that is one linear layer", "layer", None)
    if imported.untouched:
        model.encoder = encoder()  # with values for the layers that the file lacks
        load_classifier(model, path, keep_head=keep_head)
    return model, imported


def _stride_of(build: Any, weights: pathlib.Path) -> int:
    """What an exported file names, else that of the published network."""
    named = _named(weights, FINAL_STRIDE)
    return int(named) if named in map(str, FINAL_STRIDES) else published_stride(build)


def _named(weights: pathlib.Path, what: str) -> str:
    """What the metadata of an exported file say; empty where they do not."""
    return metadata_of(weights / "classifier.safetensors" if weights.is_dir() else weights).get(what, "")
