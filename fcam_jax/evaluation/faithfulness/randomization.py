"""The sanity check of Adebayo et al.: a map that outlives the weights of its network does not explain it."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from fcam_jax.errors import InputError, unknown_name
from fcam_jax.evaluation.faithfulness.arrays import Explain, batches, explained, images_of, joined, labels_like
from fcam_jax.evaluation.faithfulness.similarity import spearman, ssim

Randomize = Callable[[Key[Array, ""], Array], Array]


def shuffled(key: Key[Array, ""], values: Array) -> Array:
    """The same numbers in another order."""
    return jax.random.permutation(key, values.ravel()).reshape(values.shape)


def randomization(
    explain: Explain,
    model: Any,
    images: Any,
    labels: Any,
    *,
    layers: Sequence[str],
    randomize: Randomize = shuffled,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, Float[np.ndarray, "b n"]]:
    """Likeness of each image's map to that of the same network with its layers randomised, one after the other.

    Entry i is that of the network whose layers 0 to i are random (cascading randomisation). The likeness of a map that
    depends on the network falls towards 0; one that stays near 1 draws the edges of the image, whatever the weights.

    Args:
      explain: a model like `model`, images [b, h, w, c] and labels [b] to maps [b, y, x], or to what has them as
        `maps`; called as it is, so jit it with the model as an argument. Always of `batch_size` images.
      model: an NNX module, whose parameters (`nnx.Param`) are randomised in a copy that is set to eval, or a pytree of
        parameters, such as those of a Linen module.
      images: in the range that `explain` takes.
      labels: class of each image.
      layers: in the order from the top (the class scores) to the bottom, by the beginnings of their paths:
        ``["fc", "layer4.1"]``. All parameters below a path go at once.
      randomize: a key and the values of a parameter to random ones; by default they are shuffled.
      seed: of the keys.
      batch_size: images at a time.

    Returns:
      "spearman", the rank correlation, and "ssim", the structural similarity of maps scaled to [0, 1]; in [-1, 1], for
      each image and layer. The correlation with a constant map is 0.

    Raises:
      InputError: an array cannot be used, or a layer has no parameters.

    Reference: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 4.1.
    Differs from: they draw the initial weights anew, for which `randomize` is the place. Shuffled weights keep their
      size, so that activations do, too; what all entries share, such as biases of 0, stays.
    """
    images = images_of(images)
    labels = labels_like(labels, images)
    layers = [layers] if isinstance(layers, str) else list(layers)
    if not layers:
        raise InputError("layers is empty; name those to be randomised, from the top to the bottom")
    graph, parameters, rest = _parts(model)
    key = jax.random.key(seed)

    def maps_of_all(values: Any, title: str) -> Float[np.ndarray, "b h w"]:
        network = values if graph is None else nnx.merge(graph, values, rest, copy=True)
        found = [
            np.asarray(explained(explain, network, jnp.asarray(images[chosen]), jnp.asarray(labels[chosen])))
            for chosen in batches(len(images), batch_size, title)
        ]
        return joined(found, len(images))

    cascade: list[Any] = []  # before anything is computed, as a name may be wrong
    for layer in layers:
        parameters_so_far = cascade[-1] if cascade else parameters
        cascade.append(_randomized(parameters_so_far, layer, randomize, key))
    whole = jnp.asarray(maps_of_all(parameters, "maps"))
    found: dict[str, list[np.ndarray]] = {"spearman": [], "ssim": []}
    for layer, values in zip(layers, cascade, strict=True):
        maps = jnp.asarray(maps_of_all(values, f"maps without {layer}"))
        found["spearman"].append(np.asarray(spearman(whole, maps)))
        found["ssim"].append(np.asarray(ssim(whole, maps)))
    return {name: np.stack(values, axis=1) for name, values in found.items()}


def _parts(model: Any) -> tuple[Any, Any, Any]:
    """Structure, parameters and the rest of a module; of another pytree, these alone."""
    if not isinstance(model, nnx.Module):
        return None, model, None
    copy = nnx.merge(*nnx.split(model))
    copy.eval()
    graph, parameters, *rest = nnx.split(copy, nnx.Param, ...)
    return graph, parameters, rest[0]


def _randomized(parameters: Any, layer: str, randomize: Randomize, key: Key[Array, ""]) -> Any:
    """The parameters, with those of a layer randomised."""
    leaves, structure = jax.tree.flatten_with_path(parameters)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    chosen = [name == layer or name.startswith(f"{layer}.") for name in names]
    if not any(chosen):
        raise unknown_name("layer", layer, dict.fromkeys(name.split(".")[0] for name in names))
    values = [
        randomize(jax.random.fold_in(key, zlib.crc32(name.encode())), value) if change else value
        for name, change, (_, value) in zip(names, chosen, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, values)
