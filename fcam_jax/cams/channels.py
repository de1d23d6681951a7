"""Scores of the network for one feature map after another, in groups, so that memory is bounded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fcam_jax.cams.contract import Target
from fcam_jax.cams.score_maps import minmax, resize_bilinear

Scores = Callable[[Int[Array, " n"]], Float[Array, "b n"]]
Alter = Callable[[Float[Array, "b n y x"], Int[Array, " n"]], Float[Array, "b n y x"]]


def each_channel(scores: Scores, channels: int, batch: int, chunk: int) -> Float[Array, "b c"]:
    """Scores for all channels, a group of them at a time.

    Args:
      scores: of every image, for the channels whose indices it is given.
      channels: how many there are.
      batch: images.
      chunk: images times channels in a group, at most; a group has one channel at least.
    """
    # Groups of equal size: a smaller last one would compile the network a second time.
    size = next(size for size in range(max(1, min(chunk // batch, channels)), 0, -1) if channels % size == 0)
    groups = jax.lax.map(scores, jnp.arange(channels).reshape(-1, size))
    return jnp.moveaxis(groups, 0, 1).reshape(batch, channels)


def masked_scores(target: Target, chunk: int, alter: Alter = lambda masks, _: masks) -> Float[Array, "b c"]:
    """Score of each image's class when the input is masked by a feature map, for every feature map.

    $$ Y_k = \\mathrm{logit}_y\\big(X \\odot M_k\\big), \\qquad M_k = \\frac{U(A_k) - \\min U(A_k)}{\\max U(A_k) -
       \\min U(A_k)}, \\quad 0 \\text{ where } A_k \\text{ is constant} $$

    U is bilinear. What is masked is the normalised input: a mask of 0 is the mean colour.

    Args:
      target: X, y and A.
      chunk: masked images in the network at a time, at most; where the batch is larger, the batch.
      alter: what is done to the masks, given the indices of their channels.
    """
    features = target.features
    b, h, w, c = features.shape
    y, x = target.inputs.shape[1:3]
    # Normalised twice: the first time to 0 where a map is constant, which enlarging would turn into rounding errors.
    low = minmax(jnp.moveaxis(features, -1, 1).reshape(b * c, h, w)).reshape(b, c, h, w)

    def scores(channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        masks = minmax(resize_bilinear(low[:, channels].reshape(-1, h, w), (y, x)))
        masks = alter(masks.reshape(b, -1, y, x), channels)
        masked = target.variations(target.inputs[:, None] * masks[..., None]).at(len(target.stages) - 1)
        return masked.score(masked.features).reshape(b, -1)

    return each_channel(scores, c, b, chunk)


def softmax_weighted(target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b h w"]:
    """ReLU of the sum of the features, weighted by the softmax of the scores over the channels."""
    weights = jax.nn.softmax(scores, axis=-1)[:, None, None]
    return jax.nn.relu((weights * target.features).sum(axis=-1))
