"""Deep feature factorization: the few concepts that the features of a set of images are made of."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fcam_jax.cams.any_network import AnyNetwork, Reshape, any_network
from fcam_jax.cams.contract import Network, StageNetwork, default_stage
from fcam_jax.cams.score_maps import resize_bilinear
from fcam_jax.data.arrays import array_of
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.models.classifier import check_images
from fcam_jax.models.fcam import FCAM

_EXACT = jax.lax.Precision.HIGHEST


class Concepts(NamedTuple):
    """Concepts of a set of images, the one with the largest sum over all maps first."""

    maps: Float[Array, "b n y x"]  # in [0, 1]; 1 is where a concept is strongest in all images
    vectors: Float[Array, "n c"]  # the features of each, of length 1
    residual: float  # what is not explained: the length of A - H V over that of A


def factorize(
    model: Any,
    images: Any,
    concepts: int = 5,
    *,
    layer: Any = None,
    reshape: Reshape | None = None,
    steps: int = 200,
) -> Concepts:
    """Factorize the features of a set of images into a few concepts, and show where each is: no class takes part.

    $$ A \\approx H V, \\qquad A \\in \\mathbb{R}_{\\ge 0}^{b Z \\times c}, \\quad
       H \\in \\mathbb{R}_{\\ge 0}^{b Z \\times n}, \\quad V \\in \\mathbb{R}_{\\ge 0}^{n \\times c} $$

    A has a row for every position of every image, so that a concept is the same thing in all of them. Features below 0,
    of layers without a ReLU, count as 0. The concepts start as the positions that are least alike and come closer by
    multiplicative updates, to one of several minima of the distance. A map is bilinear between the cells.

    Args:
      model: a `Classifier`, an `FCAM` (its classifier is looked at), any other `Network`; an NNX module, or a Linen
        module with its variables as a pair.
      images: RGB in [0, 255], [b, y, x, 3]; for a module as it takes them.
      concepts: n; few show objects, more show their parts.
      layer: of a `Network` the name of a stage, "stage1" for the highest resolution and so on, by default the top one,
        or its `cam_stage`; of a module one of its modules, or its name (`cams.list_layers`).
      reshape: from a module's layer to a map, such as `cams.tokens(prefix=1)`.
      steps: updates of both factors.

    Raises:
      InputError: there is no such layer, or more concepts than channels; the images have another shape or range.

    Differs from: pytorch-grad-cam, which subtracts each channel's minimum, and scales every map of every image to
      [0, 1], so that a concept seems to be in all images.

    Reference: Collins, Achanta and Süsstrunk, Deep feature factorization for concept discovery, ECCV 2018, section 3.
    The updates: Lee and Seung, Algorithms for non-negative matrix factorization, NIPS 2000, Eq. 4. The start: Gillis
    and Vavasis, Fast and robust recursive algorithms for separable nonnegative matrix factorization, IEEE TPAMI 2014.
    """
    for name, value in (("concepts", concepts), ("steps", steps)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; it must be a whole number, at least 1")
    network = model.classifier if isinstance(model, FCAM) else model
    images = array_of(images, "images")
    if isinstance(network, Network):
        check_images(images)
    elif layer is None:
        raise InputError("layer is missing: name the one whose features are split (fc.cams.list_layers(model))")
    else:
        network = any_network(network, [layer], reshape)
        network.shapes(jax.ShapeDtypeStruct(images.shape, np.float32))  # says what does not fit
        images = images.astype(np.float32)
    is_tree = not jax.tree_util.treedef_is_leaf(jax.tree.structure(network))
    maps = (jax.jit(_maps) if is_tree else _maps)(network, jnp.asarray(images))
    place, name = _chosen(network, layer, len(maps))
    features = maps[place].astype(jnp.float32)
    b, h, w, c = features.shape
    if concepts > c:
        raise InputError(f"concepts is {concepts}; {name} has {c} channels, and no more concepts")
    factors, vectors, residual = nonnegative_factors(features.reshape(-1, c), concepts, steps)
    size = images.shape[1], images.shape[2]
    grid = network.grid(place, size) if hasattr(network, "grid") else None
    highest = factors.max(axis=0)
    shares = (factors / jnp.where(highest == 0, 1, highest)).reshape(b, h, w, -1)
    cells = jnp.moveaxis(shares, -1, 1).reshape(-1, h, w)
    return Concepts(resize_bilinear(cells, size, grid).reshape(b, -1, *size), vectors, float(residual))


@functools.partial(jax.jit, static_argnums=(1, 2))
def nonnegative_factors(
    values: Float[Array, "p c"], count: int, steps: int
) -> tuple[Float[Array, "p n"], Float[Array, "n c"], Float[Array, ""]]:
    """H and V of `factorize`, and the residual. The rows of V have length 1; those with the largest sum come first.

    $$ H \\leftarrow H \\odot \\frac{A V^T}{H V V^T}, \\qquad V \\leftarrow V \\odot \\frac{H^T A}{H^T H V},
       \\qquad 0 \\text{ where a denominator is } 0 $$

    V starts as rows of A, each that which is longest without its part in the span of those before it, with a tenth of
    the mean row added, as an update leaves a 0 as it is; H starts as A V^T.
    """
    largest = values.max()
    scale = jnp.where(largest > 0, largest, 1)
    values = jax.nn.relu(values) / scale
    vectors = values[_least_alike(values, count)] + values.mean(axis=0) / 10

    def update(_: Any, factors: tuple[Array, Array]) -> tuple[Array, Array]:
        weights, vectors = factors
        weights *= _ratio(_product(values, vectors.T), _product(weights, _product(vectors, vectors.T)))
        vectors *= _ratio(_product(weights.T, values), _product(_product(weights.T, weights), vectors))
        return weights, vectors

    weights, vectors = jax.lax.fori_loop(0, steps, update, (_product(values, vectors.T), vectors))
    residual = jnp.linalg.norm(values - _product(weights, vectors)) / jnp.maximum(jnp.linalg.norm(values), 1e-30)
    lengths = jnp.linalg.norm(vectors, axis=1)
    weights, vectors = weights * lengths, vectors / jnp.where(lengths == 0, 1, lengths)[:, None]
    order = jnp.argsort(-weights.sum(axis=0))
    return weights[:, order] * scale, vectors[order], residual


def _chosen(network: Network, layer: Any, count: int) -> tuple[int, str]:
    """Position and name of the stage; a module that is cut at a layer has it alone."""
    if isinstance(network, AnyNetwork):
        return 0, network.names[0]
    names = [f"stage{number}" for number in range(1, count + 1)]
    if layer is not None and layer not in names:
        raise unknown_name("stage", str(layer), names)
    place = default_stage(network) % count if layer is None else names.index(layer)
    return place, names[place]


def _least_alike(rows: Float[Array, "p c"], count: int) -> Int[Array, " n"]:
    """Positions of rows that are far from what the others span: the successive projection algorithm."""

    def choose(rest: Array, _: Any) -> tuple[Array, Array]:
        squares = (rest**2).sum(axis=1)
        place = squares.argmax()
        axis = rest[place] / jnp.sqrt(jnp.where(squares[place] > 0, squares[place], 1))
        return rest - jnp.outer(_product(rest, axis), axis), place

    return jax.lax.scan(choose, rows, length=count)[1]


def _maps(network: Network, images: Array) -> list[Array]:
    stages = network.stages(network.normalize(images))
    return [network.map_of(stage) if isinstance(network, StageNetwork) else stage for stage in stages]


def _product(first: Array, second: Array) -> Array:
    return jnp.matmul(first, second, precision=_EXACT)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1), 0)
