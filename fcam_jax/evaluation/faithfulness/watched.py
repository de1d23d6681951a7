"""Any network as what is watched of it: a number for each image; in a function that is compiled once."""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from fcam_jax.cams.contract import Network
from fcam_jax.data.arrays import keys_of
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.evaluation.faithfulness.arrays import batches, check_sizes, images_of, joined, labels_like, maps_of
from fcam_jax.losses.classification import class_probabilities
from fcam_jax.models.classifier import check_images
from fcam_jax.models.fcam import FCAM

Images = Float[Array, "b h w c"]
Score = Callable[[Images], Float[Array, " b"]]

WATCHED: dict[str, Callable[[Float[Array, "b k"]], Float[Array, "b k"]]] = {
    "softmax": class_probabilities,
    "sigmoid": jax.nn.sigmoid,
    "output": lambda outputs: outputs,
    "top1": lambda outputs: (outputs == outputs.max(axis=-1, keepdims=True)).astype(jnp.float32),
}


def measured(
    figure: Callable[..., Any],
    network: Any,
    images: Any,
    maps: Any,
    labels: Any,
    *,
    watch: str,
    batch_size: int,
    key: Any = None,
    **settings: Any,
) -> Any:
    """What `figure(score, images, maps, keys, **settings)` says of each image, with the score of `score_of`.

    Raises:
      InputError: an array, the network's outputs or a setting cannot be used.
    """
    images, maps = images_of(images), maps_of(maps)
    check_sizes(maps, images)
    if watch not in WATCHED:
        raise unknown_name("watch", watch, WATCHED)
    tree, function = in_inference(network, images)
    labels = labels_of(labels, images, tree, function, batch_size)
    keys = keys_of(key, len(images))
    run = _compiled(_of_batch, function, figure, watch, tuple(settings.items()))
    found = []
    for chosen in batches(len(images), batch_size, figure.__name__.strip("_")):
        batch = (jnp.asarray(values[chosen]) for values in (images, maps, labels, keys))
        found.append(jax.tree.map(np.asarray, run(tree, *batch)))
    return joined(found, len(images))


def score_of(network: Callable[[Images], Array], labels: Int[Array, " b"], watch: str = "softmax") -> Score:
    """Images to what is watched of the network's outputs, at the label of each image."""

    def score(images: Images) -> Float[Array, " b"]:
        outputs = WATCHED[watch](network(images).astype(jnp.float32))
        return jnp.take_along_axis(outputs, labels[:, None], axis=1)[:, 0]

    return score


def in_inference(network: Any, images: Any) -> tuple[Any, Any]:
    """A network that is a pytree, and None; or None, and the function that it is. Modules are copied and set to eval.

    Raises InputError: it cannot be called, or images are not in the range of a classifier of this package.
    """
    network = network.classifier if isinstance(network, FCAM) else network
    if not (callable(network) or isinstance(network, Network)):
        raise InputError(f"network is {network!r:.100}; it must be a function of images that returns class scores")
    if isinstance(network, Network):
        check_images(images)
    if isinstance(network, nnx.Module):
        network = nnx.merge(*nnx.split(network))
        network.eval()
    is_tree = not jax.tree_util.treedef_is_leaf(jax.tree.structure(network))
    if is_tree:
        return network, None
    return None, network if isinstance(network, Hashable) else lambda images: network(images)


def labels_of(labels: Any, images: Any, tree: Any, function: Any, batch_size: int) -> Int[np.ndarray, " b"]:
    """The label of each image; where there are none, the class that the network predicts.

    Raises InputError: the outputs are no class scores, or a label is none of the classes.
    """
    run = _compiled(_outputs, function)
    outputs = run.eval_shape(tree, jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32))
    if getattr(outputs, "ndim", None) != 2 or len(outputs) != 1:
        got = f"the shape {outputs.shape}" if hasattr(outputs, "shape") else type(outputs).__name__
        wrap = "give a function that does, such as lambda images: network(images)[0]"
        raise InputError(f"of one image the network returns {got}; it must return scores (images, classes): {wrap}")
    if labels is None:
        chunks = batches(len(images), batch_size, "classes")
        found = [np.asarray(run(tree, jnp.asarray(images[chosen], jnp.float32)).argmax(axis=-1)) for chosen in chunks]
        return joined(found, len(images))
    given, classes = labels_like(labels, images), outputs.shape[1]
    for i in np.flatnonzero((given < 0) | (given >= classes)).tolist():
        raise InputError(f"labels[{i}] is {given[i]}; the network has {classes} classes, 0 to {classes - 1}")
    return given


@functools.lru_cache(maxsize=64)
def _compiled(of_network: Callable[..., Any], function: Any, *static: Any) -> Any:
    """The compiled function of a network and arrays: of the pytree that it is given, where `function` is None.

    The arrays of a pytree are arguments; those of a plain function are constants in the compiled one, so few are kept.
    """

    def run(tree: Any, *arrays: Array) -> Any:
        network = tree if function is None else function
        forward = functools.partial(_of_stages, network) if isinstance(network, Network) else network
        return of_network(forward, *static, *arrays)

    return jax.jit(run)


def _of_stages(network: Network, images: Images) -> Float[Array, "b k"]:
    stages = network.stages(network.normalize(images))
    return network.score(stages[-1], len(stages) - 1)


def _outputs(network: Callable[..., Any], images: Images) -> Any:
    return network(images)


def _of_batch(
    network: Callable[[Images], Array],
    figure: Callable[..., Any],
    watch: str,
    settings: tuple[tuple[str, Any], ...],
    images: Array,
    maps: Array,
    labels: Array,
    keys: Array,
) -> Any:
    score = score_of(network, labels, watch)
    return figure(score, images.astype(jnp.float32), maps.astype(jnp.float32), keys, **dict(settings))
