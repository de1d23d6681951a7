"""Heads: from the features of the top stage to class scores, and to the map of a class that the head has itself.

WGAP and TAP pool the features and score the result; every other head makes a map for each class and pools that.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from fcam_jax.component import Registry, above, at_least, shares
from fcam_jax.errors import InputError
from fcam_jax.models.layers import conv
from fcam_jax.models.weight_names import Names, of_torch, torch_name

# As PyTorch's layers start: uniform within 1/sqrt(fan_in).
INIT = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

_AUTHORS: tuple[Names, ...] = (of_torch("the head"),)

Features = Float[Array, "b h w c"]  # map of the top stage
Labels = Int[Array, " b"]
Scores = Float[Array, "b k"]
ClassMaps = Float[Array, "b h w k"]


class Head(nnx.Module):
    """The contract of every head; one whose scores are the means of its `maps` writes these alone.

    Its constructor takes the channels of the top stage, the number of scores, and the keywords `dtype` and `rngs`; any
    others are its settings, with a default. `weight_names` are the families of weight files; it is exported by the
    first.
    """

    weight_names: ClassVar[tuple[Names, ...]] = (of_torch("the head", lambda path: f"head.{torch_name(path)}"),)
    reads: ClassVar[tuple[int, ...]] = (-1,)  # positions of the stages whose maps it is called with

    def maps(self, features: Features) -> ClassMaps:
        """The maps of all classes, float32."""
        raise NotImplementedError

    def __call__(self, features: Features) -> Scores:
        """Class scores before softmax, float32."""
        return self.maps(features).mean(axis=(1, 2))

    def activation(self, features: Features, labels: Labels) -> Float[Array, "b h w"]:
        """The head's own map of the given class y of each image, signed, float32."""
        return jnp.take_along_axis(self.maps(features), labels[:, None, None, None], axis=-1)[..., 0]


class WGAP(Head):
    """Global average pooling and one linear layer.

    $$ \\mathrm{logit}_y = b_y + \\frac1Z \\sum_p \\sum_k W_{ky} A_{kp} $$

    Reference: Zhou et al., Learning deep features for discriminative localization, CVPR 2016, section 2.
    """

    weight_names = _AUTHORS

    def __init__(self, features: int, num_classes: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        # Close scores must not tie at a compute dtype of few bits.
        of_sum = {"preferred_element_type": jnp.float32}
        self.fc = nnx.Linear(features, num_classes, kernel_init=INIT, dtype=dtype, rngs=rngs, **of_sum)

    def __call__(self, features: Features) -> Scores:
        return self.fc(features.mean(axis=(1, 2), dtype=jnp.float32)).astype(jnp.float32)

    def activation(self, features: Features, labels: Labels) -> Float[Array, "b h w"]:
        """The class's own share of every position in its score: CAM, signed, without the bias.

        $$ C_p = \\sum_k W_{ky} A_{kp} $$

        Reference: Zhou et al., CVPR 2016, Eq. 2.
        """
        return _weighted_sum(features, self.fc.kernel[...].T[labels])


class TAP(WGAP):
    """Thresholded average pooling and one linear layer: the mean of each channel where it stands out.

    $$ \\mathrm{logit}_y = b_y + \\sum_k W_{ky} p_k, \\qquad
       p_k = \\frac{\\sum_p A_{kp} [A_{kp} > \\tau_k]}{\\max(1, |\\{p: A_{kp} > \\tau_k\\}|)}, \\quad
       \\tau_k = \\theta \\max_p A_{kp} $$

    What is not above 0 never counts, and the threshold has no gradient. The map is that of `WGAP`, of all features.

    Args:
      threshold: theta, a share of the channel's maximum; with 0 it is the mean of what is positive.

    Raises:
      InputError: the threshold lies outside of [0, 1].

    Reference: Bae et al., Rethinking class activation mapping, ECCV 2020, section 3.1; theta of the released program.
    """

    def __init__(self, features: int, num_classes: int, *, threshold: float = 0.1, **of_layers: Any):
        self.threshold = threshold
        shares(self, "threshold")
        super().__init__(features, num_classes, **of_layers)

    def __call__(self, features: Features) -> Scores:
        return self.fc(self.pooled(features)).astype(jnp.float32)

    def pooled(self, features: Features) -> Float[Array, "b c"]:
        """The means p of all channels, float32."""
        features = features.astype(jnp.float32)
        kept = features > jnp.maximum(self.threshold * features.max(axis=(1, 2), keepdims=True), 0)
        return jnp.where(kept, features, 0).sum(axis=(1, 2)) / jnp.maximum(kept.sum(axis=(1, 2)), 1)


class MapHead(Head):
    """A 1x1 convolution to one map for each class, and a pooling of each map to the score of its class.

    $$ C_{yp} = b_y + \\sum_k W_{ky} A_{kp}, \\qquad \\mathrm{logit}_y = \\mathrm{pool}_p\\, C_{yp} $$

    `dtype` is that of the maps' computation; their sums and the pooling are float32 always.

    Args:
      background: one more map, before those of the classes, that has no score.
    """

    weight_names = _AUTHORS

    def __init__(self, features: int, num_classes: int, *, background: bool = False, **of_layers: Any):
        self.conv = conv(features, num_classes + background, 1, bias=True, init=INIT, **of_layers)
        self.background, self.dtype = background, of_layers.get("dtype", jnp.float32)

    def pool(self, maps: ClassMaps) -> Scores:
        """The score of each map."""
        raise NotImplementedError

    def weights(self) -> tuple[Float[Array, "c n"], Float[Array, " n"]]:
        """Weights W and bias b of every map, that of the background included."""
        return _weights(self.conv)

    def maps(self, features: Features) -> Float[Array, "b h w n"]:
        """All maps, float32: of the background where there is one, then of the classes."""
        kernel, bias = self.weights()
        # Close scores must not tie at a compute dtype of few bits, so the sum is not rounded to it.
        given = features.astype(self.dtype), kernel.astype(self.dtype)
        return jnp.einsum("bhwc,cn->bhwn", *given, preferred_element_type=jnp.float32) + bias

    def __call__(self, features: Features) -> Scores:
        return self.pool(self.maps(features)[..., int(self.background) :])

    def activation(self, features: Features, labels: Labels) -> Float[Array, "b h w"]:
        """The map C that is pooled to the class's score, signed, with the bias as in the released F-CAM program."""
        kernel, bias = self.weights()
        index = labels + int(self.background)
        return _weighted_sum(features, kernel.T[index]) + bias[index][:, None, None]


class GAP(MapHead):
    """The mean of each class's map.

    $$ \\mathrm{logit}_y = \\frac1Z \\sum_p C_{yp} $$

    Reference: Lin et al., Network in network, ICLR 2014, section 3.2.
    """

    def pool(self, maps: ClassMaps) -> Scores:
        return maps.mean(axis=(1, 2))


class MaxPool(MapHead):
    """The maximum of each class's map.

    $$ \\mathrm{logit}_y = \\max_p C_{yp} $$

    Reference: Oquab et al., Is object localization for free?, CVPR 2015, section 3.
    """

    def pool(self, maps: ClassMaps) -> Scores:
        return maps.max(axis=(1, 2))


class LogSumExp(MapHead):
    """A smooth maximum of each class's map, between its mean (r to 0) and its maximum (r to infinity).

    $$ \\mathrm{logit}_y = \\frac1r \\log\\Big(\\frac1Z \\sum_p \\exp(r\\, C_{yp})\\Big) $$

    Args:
      r: sharpness, above 0.

    Reference: Pinheiro and Collobert, From image-level to pixel-level labeling, CVPR 2015, Eq. 3.
    """

    def __init__(self, features: int, num_classes: int, *, background: bool = False, r: float = 10.0, **of_layers: Any):
        self.r = r
        above(self, r=0)
        super().__init__(features, num_classes, background=background, **of_layers)

    def pool(self, maps: ClassMaps) -> Scores:
        positions = maps.shape[1] * maps.shape[2]
        return (jax.nn.logsumexp(self.r * maps, axis=(1, 2)) - jnp.log(positions)) / self.r


class WILDCAT(MapHead):
    """Several maps for each class, their mean, and of that the highest positions and, weighted, the lowest.

    $$ C_{yp} = \\frac1M \\sum_m C_{ymp}, \\qquad
       \\mathrm{logit}_y = \\frac1{k^+} \\sum_{p \\in \\mathrm{top}} C_{yp}
                         + \\frac{\\alpha}{k^-} \\sum_{p \\in \\mathrm{bottom}} C_{yp} $$

    Args:
      modalities: M, maps for each class (and for the background); a class's maps are neighbours.
      kmax: k+, how many of the highest positions: a float up to 1 is a share of them, rounded but at least one
        position; an integer, or a whole number above 1, is a count, at most all.
      kmin: k-, how many of the lowest, likewise; 0 leaves them out.
      alpha: weight of the lowest.

    Raises:
      InputError: a setting is outside its range.

    Differs from: WILDCAT's program, which halves the sum and takes a share of 1.0 for a count of one; the released
    F-CAM program, which drops the term of the lowest positions (it adds out of place and discards the result):
    alpha = 0 is the same.

    Reference: Durand et al., WILDCAT, CVPR 2017, Eq. 1 and 2.
    """

    def __init__(
        self,
        features: int,
        num_classes: int,
        *,
        background: bool = False,
        modalities: int = 5,
        kmax: float | int = 0.5,
        kmin: float | int = 0.1,
        alpha: float = 0.6,
        **of_layers: Any,
    ):
        self.background, self.dtype, self.modalities = background, of_layers.get("dtype", jnp.float32), modalities
        self.kmax, self.kmin, self.alpha = kmax, kmin, alpha
        at_least(self, modalities=1)
        if not (_is_share_or_count(kmax) and kmax > 0):
            raise InputError(f"kmax is {kmax}; it must be a share in (0, 1] or a whole number")
        if not _is_share_or_count(kmin):
            raise InputError(f"kmin is {kmin}; it must be a share in [0, 1] or a whole number")
        maps = modalities * (num_classes + background)
        self.to_modalities = conv(features, maps, 1, bias=True, init=INIT, **of_layers)

    def weights(self) -> tuple[Float[Array, "c n"], Float[Array, " n"]]:
        """Weights and bias of the mean of each class's maps: the means of theirs, so M maps cost as little as one."""
        kernel, bias = _weights(self.to_modalities)
        shape = (-1, self.modalities)
        return kernel.reshape(kernel.shape[0], *shape).mean(axis=-1), bias.reshape(shape).mean(axis=-1)

    def pool(self, maps: ClassMaps) -> Scores:
        positions = maps.shape[1] * maps.shape[2]
        rising = jnp.sort(maps.reshape(len(maps), positions, -1), axis=1)
        scores = rising[:, -_count(self.kmax, positions) :].mean(axis=1)
        if self.kmin > 0:
            scores += self.alpha * rising[:, : _count(self.kmin, positions)].mean(axis=1)
        return scores


def _weighted_sum(features: Features, weights: Float[Array, "b c"]) -> Float[Array, "b h w"]:
    return jnp.einsum("bhwc,bc->bhw", features.astype(jnp.float32), weights, precision=jax.lax.Precision.HIGHEST)


def _weights(layer: nnx.Conv) -> tuple[Float[Array, "c n"], Float[Array, " n"]]:
    assert layer.bias is not None
    return layer.kernel[0, 0], layer.bias[...]


def _is_share_or_count(k: float | int) -> bool:
    return 0 <= k <= 1 or (k > 1 and float(k).is_integer())


def _count(k: float | int, positions: int) -> int:
    """Number of positions that a share or a count stands for; it may be above all, which a slice takes for all."""
    return max(round(k * positions), 1) if isinstance(k, float) and k <= 1 else int(k)


HEADS: Registry[type[Head]] = Registry(
    "head", {"wgap": WGAP, "tap": TAP, "gap": GAP, "max": MaxPool, "lse": LogSumExp, "wildcat": WILDCAT}
)
