"""CAMs of any classifier in one call: raw images in, score maps of their size out."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.channels import ChannelCAM, joined
from fcam_jax.cams.contract import ActivationMap, Network, Target
from fcam_jax.cams.fusion import fuse, fused
from fcam_jax.cams.registry import with_settings
from fcam_jax.cams.score_maps import score_map
from fcam_jax.data.arrays import array_of, bounds_of, known
from fcam_jax.errors import InputError
from fcam_jax.models.fcam import FCAM
from fcam_jax.runtime.progress import progress_bar

Maps = Float[Array, "*b y x"]


def compute(
    cam: str | ActivationMap,
    model: Any,
    images: Any,
    labels: Any = None,
    *,
    stages: Sequence[str] = (),
    convention: str = "protocol",
    keys: Key[Array, " b"] | None = None,
    **settings: Any,
) -> Maps | tuple[Maps, Int[Array, "*b"]]:
    """Score maps of a batch of images by a CAM.

    A model that is an NNX module or another pytree is compiled with its arrays as arguments: once for each CAM, its
    settings, and shape of images; any other model runs operation by operation. It may be called in a function that is
    jitted or differentiated.

    Args:
      cam: its name (`cams.CAMS`), or the CAM with its settings, such as `cams.GradCAM()`.
      model: a `Classifier`, an `FCAM` (its classifier is explained), or any other `Network`.
      images: RGB in [0, 255], [b, h, w, 3], of any dtype; a list of images of one size; or one image, [h, w, 3].
      labels: class of each image, or of the one; the predicted one where there are none.
      stages: names of the stages, "stage1" for the highest resolution and so on; none for the top one.
      convention: how maps are brought to the images' size, see `score_maps`.
      keys: a key for every image, for the CAMs that draw; by default of the image's place in the batch.
      **settings: of a CAM that is given by its name, where they differ from its defaults.

    Returns:
      Maps in [0, 1]; where no labels were given, maps and predicted labels. Without a batch axis for one image.

    Raises:
      InputError: a name, setting, shape, range or label that does not exist or fit.
    """
    network = model.classifier if isinstance(model, FCAM) else model
    if not isinstance(network, Network):
        raise InputError(f"{type(model).__name__} is no classifier for CAMs: it needs normalize, stages and score")
    if not isinstance(cam, str | ActivationMap):
        raise InputError(f"cam is {cam!r:.100}; it must be the name of a CAM, or one with its settings")
    if not isinstance(cam, str) and settings:
        raise InputError(f"{', '.join(settings)}: give the settings to the CAM itself, {type(cam).__name__}(...)")
    chosen = with_settings(cam, settings) if isinstance(cam, str) else cam
    images = _batch(images)
    if single := images.ndim == 3:
        images, labels = images[None], None if labels is None else jnp.atleast_1d(jnp.asarray(labels))
    count = len(images)
    given = None if labels is None else _checked(jnp.asarray(array_of(labels, "labels")), count)
    if keys is None:
        keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(count))
    stage_names = (stages,) if isinstance(stages, str) else tuple(stages)
    run = _compiled if _is_tree(network) else functools.partial
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((network, images, given, keys)))
    try:
        if isinstance(chosen, ChannelCAM) and not traced:
            maps, logits = _in_groups(run, chosen, stage_names, convention, network, images, given, keys)
        else:
            maps, logits = run(_at_once, chosen, stage_names, convention)(network, images, given, keys)
    except InputError as error:
        raise InputError(str(error)) from None  # without the lines that JAX adds to what fails while it traces
    if given is not None:
        _check_range(given, logits.shape[1])
    maps, predicted = (values[0] if single else values for values in (maps, logits.argmax(axis=-1)))
    return (maps, predicted) if given is None else maps


@functools.cache
def _compiled(function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    """The compiled function; the same object for the same settings, so that nothing is compiled twice."""
    return jax.jit(functools.partial(function, *static))


def _at_once(
    chosen: ActivationMap,
    stages: tuple[str, ...],
    convention: str,
    network: Network,
    images: Array,
    labels: Array | None,
    keys: Array,
) -> tuple[Maps, Float[Array, "b k"]]:
    """Maps and class scores from a network, images, labels (None: the predicted ones) and keys."""
    inputs, maps, labels, logits = _seen(network, images, labels)
    cam = fused(chosen, stages, len(maps))
    found = cam(Target(network, inputs, maps, labels, keys, len(maps) - 1))
    return score_map(found, (images.shape[1], images.shape[2]), convention), logits


def _in_groups(
    run: Callable[..., Callable[..., Any]],
    chosen: ChannelCAM,
    stages: tuple[str, ...],
    convention: str,
    network: Network,
    images: Array,
    labels: Array | None,
    keys: Array,
) -> tuple[Maps, Float[Array, "b k"]]:
    """The same, a group of feature maps at a time, counted by a bar; `run` compiles a function with its settings."""
    inputs, maps, labels, logits = run(_seen)(network, images, labels)
    cam, found = fused(chosen, stages, len(maps)), []
    targets = [Target(network, inputs, maps, labels, keys, stage) for stage in cam.stages]
    total = sum(target.map.shape[-1] for target in targets)
    with progress_bar(f"{chosen.title} of {len(images)} image(s)", total, "feature map") as bar:
        for target in targets:
            given = network, inputs, maps, labels, keys
            scores = run(_scores, chosen, target.stage)
            groups = []
            for channels in chosen.groups(target):
                groups.append(jax.block_until_ready(scores(*given, channels)))
                bar.update(len(channels))
            found.append(run(_combined, chosen, target.stage)(*given, joined(jnp.stack(groups))))
    return run(_sized, (images.shape[1], images.shape[2]), convention)(found), logits


def _seen(network: Network, images: Array, labels: Array | None) -> tuple[Array, tuple[Any, ...], Array, Array]:
    inputs = network.normalize(images)
    maps = network.stages(inputs)
    logits = network.score(maps[-1], len(maps) - 1)
    return inputs, maps, logits.argmax(axis=-1) if labels is None else labels, logits


def _scores(
    cam: ChannelCAM, stage: int, network: Network, inputs: Array, maps: Any, labels: Array, keys: Array, of: Array
) -> Array:
    return cam.scores(Target(network, inputs, maps, labels, keys, stage), of)


def _combined(
    cam: ChannelCAM, stage: int, network: Network, inputs: Array, maps: Any, labels: Array, keys: Array, scores: Array
) -> Array:
    return cam.combined(Target(network, inputs, maps, labels, keys, stage), scores)


def _sized(size: tuple[int, int], convention: str, found: list[Array]) -> Array:
    return score_map(fuse(found), size, convention)


def _batch(images: Any) -> Array:
    """Images, or one, as an array whose shape and, where it is known, range are right."""
    found = array_of(images, "images")
    if found.ndim not in (3, 4) or found.shape[-1] != 3:
        raise InputError(f"images have the shape {found.shape}; it must be (images, height, width, 3), or of one image")
    if jnp.issubdtype(found.dtype, jnp.floating) and known(found):
        low, high = bounds_of(found)
        if low < 0 or 0 < high <= 1:
            cure = "undo their normalisation" if low < 0 else "multiply them by 255"
            raise InputError(f"images lie in [{low:g}, {high:g}]; give RGB in [0, 255]: {cure}")
    return jnp.asarray(found)


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
