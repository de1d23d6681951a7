"""CAMs that ask the network once for every feature map, in groups: memory is bounded, and progress can be seen."""

import abc
import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.cams.score_maps import minmax, resize_bilinear

Alter = Callable[[Float[Array, "b n y x"], Int[Array, " n"]], Float[Array, "b n y x"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelCAM(ActivationMap):
    """A CAM out of a score for every feature map.

    Attributes:
      chunk: images times feature maps in the network at a time, at most; one feature map at least.
    """

    chunk: int = 128

    @abc.abstractmethod
    def scores(self, target: Target, channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        """The scores of some feature maps, by their positions."""

    @abc.abstractmethod
    def combined(self, target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b h w"]:
        """The map, from the scores of all."""

    def passes(self, channels: int) -> int:
        """Passes of the network, or the rest of it, that an image takes for so many feature maps."""
        return channels

    def groups(self, target: Target) -> Int[Array, "g n"]:
        """Positions of all feature maps in groups of equal size: a smaller last one would be compiled for itself."""
        batch, channels = len(target.labels), target.map.shape[-1]
        most = max(1, min(self.chunk // batch, channels))
        size = next(size for size in range(most, 0, -1) if channels % size == 0)
        return jnp.arange(channels).reshape(-1, size)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""
        groups = jax.lax.map(functools.partial(self.scores, target), self.groups(target))
        return self.combined(target, joined(groups))


def joined(groups: Float[Array, "g b n"]) -> Float[Array, "b _"]:
    """The scores of all feature maps, from those of groups."""
    return jnp.moveaxis(groups, 0, 1).reshape(groups.shape[1], -1)


def masked_scores(
    target: Target, channels: Int[Array, " n"], alter: Alter = lambda masks, _: masks
) -> Float[Array, "b n"]:
    """Score of each image's class when the input is masked by a feature map, for some feature maps.

    $$ Y_k = \\mathrm{logit}_y\\big(X \\odot M_k\\big), \\qquad M_k = \\frac{U(A_k) - \\min U(A_k)}{\\max U(A_k) -
       \\min U(A_k)}, \\quad 0 \\text{ where } A_k \\text{ is constant} $$

    U is bilinear. What is masked is the normalised input: a mask of 0 is the mean colour.

    Args:
      target: X, y and A.
      channels: positions k.
      alter: what is done to the masks, given the positions.
    """
    features = jnp.moveaxis(target.features[..., channels], -1, 1)
    (b, n, h, w), (y, x) = features.shape, target.inputs.shape[1:3]
    # Normalised twice: the first time to 0 where a map is constant, which enlarging would turn into rounding errors.
    masks = minmax(resize_bilinear(minmax(features.reshape(-1, h, w)), (y, x))).reshape(b, n, y, x)
    inputs = target.inputs[:, None] * alter(masks, channels)[..., None]
    masked = target.variations(inputs).at(len(target.stages) - 1)
    return masked.score(masked.features).reshape(b, n)


def softmax_weighted(target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b h w"]:
    """ReLU of the sum of the features, weighted by the softmax of the scores over the channels."""
    weights = jax.nn.softmax(scores, axis=-1)[:, None, None]
    return jax.nn.relu((weights * target.features).sum(axis=-1))
