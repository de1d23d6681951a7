"""CAMs that ask the network once for every feature map, in groups: memory is bounded, and progress can be seen.

Memory is that of a pass of `chunk` images, or of the batch where that is larger. A gradient keeps all of the passes.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Target
from fcam_jax.cams.score_maps import minmax, resize_bilinear
from fcam_jax.cams.weighted import WeightedMap
from fcam_jax.component import at_least

Alter = Callable[[Float[Array, "b n ..."], Int[Array, " n"]], Float[Array, "b n ..."]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelCAM(WeightedMap):
    """A CAM out of a score for every feature map.

    Attributes:
      chunk: images times feature maps in the network at a time, at most; one feature map at least.
    """

    chunk: int = 128

    def __post_init__(self) -> None:
        at_least(self, chunk=1)

    @abc.abstractmethod
    def scores(self, target: Target, channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        """The scores of some feature maps, by their positions."""

    @abc.abstractmethod
    def weights(self, target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b c"]:
        """The weight of every feature map, from the scores of all."""

    def combined(self, target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b h w"]:
        """The map, from the scores of all."""
        return self.collapsed(self.weights(target, scores)[:, None, None] * target.features)

    def passes(self, channels: int) -> int:
        """Passes of the network, or the rest of it, that an image takes for so many feature maps."""
        return channels

    def groups(self, target: Target) -> Int[Array, "g n"]:
        """Positions of all feature maps in groups of equal size: a smaller last one would be compiled for itself."""
        batch, channels = len(target.keys), target.map.shape[-1]
        most = max(1, min(self.chunk // batch, channels))
        size = next(size for size in range(most, 0, -1) if channels % size == 0)
        return jnp.arange(channels).reshape(-1, size)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
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

    U is bilinear. What is masked is the normalised input: a mask of 0 is the mean colour. `alter` changes the masks,
    given the positions k.
    """
    features = jnp.moveaxis(target.features[..., channels], -1, 1)
    (b, n, h, w), space = features.shape, target.inputs.shape[1:-1]
    # Normalised twice: the first time to 0 where a map is constant, which enlarging would turn into rounding errors.
    small = target.unfolded(minmax(features.reshape(-1, h, w)))
    masks = minmax(resize_bilinear(small, space, target.grid)).reshape(b, n, *space)
    inputs = target.inputs[:, None] * alter(masks, channels)[..., None]
    masked = target.variations(inputs).at(len(target.stages) - 1)
    return masked.score(masked.features).reshape(b, n)


class ScoreCAM(ChannelCAM):
    """Score-weighted class activation map: features weighted by the score of the image that they leave visible.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w = \\mathrm{softmax}_k\\big(\\mathrm{logit}_y(X \\odot M_k) - \\mathrm{logit}_y(X_b)\\big) $$

    with the masks M_k of `masked_scores`. The baseline X_b is the same for all channels and drops out of the softmax.
    One forward pass for each channel.

    Differs from: the released F-CAM program, whose weights are the class's probabilities, without a softmax over
      channels, and which weights normalised features and normalises masks before they are enlarged.

    Reference: Wang et al., Score-CAM, CVPR Workshops 2020, algorithm 1.
    """

    title = "ScoreCAM"

    def scores(self, target: Target, channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        """Scores of the masked images."""
        return masked_scores(target, channels)

    def weights(self, target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b c"]:
        return jax.nn.softmax(scores, axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SSCAM(ScoreCAM):
    """Smoothed Score-CAM, with the noise on the masks.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w = \\mathrm{softmax}_k \\Big(\\frac1n \\sum_{i=1}^n
       \\mathrm{logit}_y\\big(X \\odot (M_k + \\delta_{ki})\\big)\\Big),
       \\qquad \\delta \\sim N(0, \\sigma^2) $$

    Attributes:
      samples: n, noisy masks for each channel.
      std: sigma; masks are in [0, 1] before.

    Differs from: the released F-CAM program, as `ScoreCAM`; its noise is that of an image with its colours, the same
      for all channels.

    Reference: Wang et al., SS-CAM, 2020.
    """

    title = "SS-CAM"
    samples: int = 35
    std: float = 2.0

    def __post_init__(self) -> None:
        at_least(self, samples=1, chunk=1, std=0)

    def passes(self, channels: int) -> int:
        return self.samples * channels

    def scores(self, target: Target, channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        """Mean scores over the noise."""

        def of(sample: Int[Array, ""]) -> Float[Array, "b n"]:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, sample))(target.keys)
            return masked_scores(target, channels, functools.partial(_noisy, keys, self.std))

        return jax.lax.map(of, jnp.arange(self.samples)).mean(axis=0)


def _noisy(
    keys: Key[Array, " b"], std: float, masks: Float[Array, "b n ..."], channels: Int[Array, " n"]
) -> Float[Array, "b n ..."]:
    """Masks with noise of their own; a channel's does not hang on the group it is in."""

    def draw(key: Key[Array, ""], channel: Int[Array, ""]) -> Float[Array, "..."]:
        return jax.random.normal(jax.random.fold_in(key, channel), masks.shape[2:])

    return masks + std * jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(keys, channels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ISCAM(ScoreCAM):
    """Integrated Score-CAM: the score is integrated from no mask to the whole mask.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w = \\mathrm{softmax}_k \\Big(\\frac1n \\sum_{i=1}^n
       \\mathrm{logit}_y\\big(X \\odot \\tfrac{i}{n} M_k\\big)\\Big) $$

    Attributes:
      samples: n, steps of the integral.

    Differs from: the released F-CAM program, as `ScoreCAM`; it adds the steps' masks up, so that the last is 5.5 M_k.

    Reference: Naidu et al., IS-CAM, 2020.
    """

    title = "IS-CAM"
    samples: int = 10

    def __post_init__(self) -> None:
        at_least(self, samples=1, chunk=1)

    def passes(self, channels: int) -> int:
        return self.samples * channels

    def scores(self, target: Target, channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        """Mean scores over the steps."""

        def at(share: Float[Array, ""]) -> Float[Array, "b n"]:
            return masked_scores(target, channels, lambda masks, _: share * masks)

        shares = jnp.arange(1, self.samples + 1, dtype=jnp.float32) / self.samples
        return jax.lax.map(at, shares).mean(axis=0)


class AblationCAM(ChannelCAM):
    """Ablation-based class activation map: features weighted by what the score loses without them.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w_k = \\frac{\\mathrm{logit}_y(A) - \\mathrm{logit}_y(A \\text{ with } A_k = 0)}{|\\mathrm{logit}_y(A)|} $$

    One pass of the rest of the network for each channel.

    Differs from: the paper divides by the score itself, which turns the map round where that is negative.

    Reference: Desai and Ramaswamy, Ablation-CAM, WACV 2020.
    """

    title = "Ablation-CAM"

    def scores(self, target: Target, channels: Int[Array, " n"]) -> Float[Array, "b n"]:
        """Scores without the feature maps."""
        features = target.features
        kept = jnp.arange(features.shape[-1]) != channels[:, None]
        ablated = features[:, None] * kept[:, None, None]
        return target.score(ablated.reshape(-1, *features.shape[1:])).reshape(len(features), -1)

    def weights(self, target: Target, scores: Float[Array, "b c"]) -> Float[Array, "b c"]:
        """What the score loses without a feature map, as a share of it."""
        whole = target.score(target.features)[:, None]
        size = jnp.abs(whole)
        return (whole - scores) / jnp.where(size == 0, 1, size)
