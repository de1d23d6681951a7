"""CAMs of any classifier in one call: raw images in, score maps of their size out."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Network, explain
from fcam_jax.cams.registry import bind
from fcam_jax.cams.score_maps import score_map
from fcam_jax.data.arrays import array_of, known
from fcam_jax.errors import InputError
from fcam_jax.models.fcam import FCAM

Maps = Float[Array, "b y x"]
Program = Callable[[Network, Array, Array | None, Array], tuple[Maps, Float[Array, "b k"]]]


def compute(
    name: str,
    model: Any,
    images: Any,
    labels: Any = None,
    *,
    stages: Sequence[str] = (),
    convention: str = "protocol",
    keys: Key[Array, " b"] | None = None,
    **settings: Any,
) -> Maps | tuple[Maps, Int[Array, " b"]]:
    """Score maps of a batch of images by a CAM.

    A model that is an NNX module or another pytree is compiled with its arrays as arguments: once for each CAM, its
    settings, and shape of images; any other model runs operation by operation. It may be called in a function that is
    jitted or differentiated.

    Args:
      name: of the CAM (`cams.CAMS`).
      model: a `Classifier`, an `FCAM` (its classifier is explained), or any other `Network`.
      images: RGB in [0, 255], [b, h, w, 3], of any dtype.
      labels: class of each image; the predicted one where there are none.
      stages: names of the stages, "stage1" for the highest resolution and so on; none for the top one.
      convention: how maps are brought to the images' size, see `score_maps`.
      keys: a key for every image, for the CAMs that draw; by default of the image's place in the batch.
      **settings: of the CAM, where they differ from its defaults.

    Returns:
      Maps in [0, 1]; where no labels were given, maps and predicted labels.

    Raises:
      InputError: a name, setting, shape or label that does not exist or fit.
    """
    network = model.classifier if isinstance(model, FCAM) else model
    if not isinstance(network, Network):
        raise InputError(f"{type(model).__name__} is no classifier for CAMs: it needs normalize, stages and score")
    images = jnp.asarray(array_of(images, "images"))
    if images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(f"images have the shape {images.shape}; it must be (images, height, width, 3), none of them 0")
    if known(images) and jnp.issubdtype(images.dtype, jnp.floating) and 0 < images.max() <= 1:
        raise InputError("images lie in [0, 1]; they must lie in [0, 255], so multiply them by 255")
    count = len(images)
    given = None if labels is None else _checked(jnp.asarray(array_of(labels, "labels")), count)
    if keys is None:
        keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(count))
    stage_names = (stages,) if isinstance(stages, str) else tuple(stages)
    settings_key = tuple(sorted(settings.items()))
    program = (_compiled if _is_tree(network) else _program)(name, stage_names, convention, settings_key)
    try:
        maps, logits = program(network, images, given, keys)
    except InputError as error:
        raise InputError(str(error)) from None  # without the lines that JAX adds to what fails while it traces
    if given is None:
        return maps, logits.argmax(axis=-1)
    _check_range(given, logits.shape[1])
    return maps


@functools.cache
def _compiled(*static: Any) -> Program:
    """The compiled program; the same object for the same settings, so that nothing is compiled twice."""
    return jax.jit(_program(*static))


def _program(name: str, stages: tuple[str, ...], convention: str, settings: tuple[tuple[str, Any], ...]) -> Program:
    """Maps and class scores from a network, images, labels (None: the predicted ones) and keys."""

    def program(network: Network, images: Array, labels: Array | None, keys: Array) -> tuple[Maps, Float[Array, "b k"]]:
        maps = network.stages(network.normalize(images))
        cam = bind(name, dict(settings), stages, len(maps))
        logits = network.score(maps[-1], len(maps) - 1)
        chosen = logits.argmax(axis=-1) if labels is None else labels
        found = cam(explain(network, images, maps, chosen, keys))
        return score_map(found, (images.shape[1], images.shape[2]), convention), logits

    return program


def _is_tree(network: Any) -> bool:
    return not jax.tree_util.treedef_is_leaf(jax.tree.structure(network))


def _checked(labels: Array, count: int) -> Int[Array, " b"]:
    if labels.shape != (count,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"labels are {labels.dtype} of the shape {labels.shape}; they must be {count} integers")
    return labels


def _check_range(labels: Int[Array, " b"], classes: int) -> None:
    if isinstance(labels, jax.core.Tracer):
        return  # their values are not known while a function is traced
    wrong = np.asarray(labels)[(np.asarray(labels) < 0) | (np.asarray(labels) >= classes)]
    if wrong.size:
        raise InputError(f"label {wrong[0]} is outside of the network's {classes} classes, 0 to {classes - 1}")
