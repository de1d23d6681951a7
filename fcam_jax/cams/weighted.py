"""CAMs that are a sum over channels of weighted activations, or the first principal component of these."""

import dataclasses

import jax
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.cams.eigencam import leading_projection


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedMap(ActivationMap):
    """A CAM out of weighted activations W A: its map is the ReLU of their sum over the channels.

    Attributes:
      eigen_smooth: the first principal component of the weighted activations takes the place of their sum: less noise,
        and less of the class. Its sign is that which agrees with the sum.
    """

    eigen_smooth: bool = False

    def weighted(self, target: Target) -> Float[Array, "b h w c"]:
        """The weighted activations of the target's stage."""
        raise NotImplementedError

    def collapsed(self, weighted: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
        """The map, from the weighted activations."""
        return jax.nn.relu(self.added(weighted))

    def added(self, weighted: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
        """Their signed sum over the channels, or their principal component."""
        return principal_component(weighted) if self.eigen_smooth else weighted.sum(axis=-1)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        return self.collapsed(self.weighted(target))


def principal_component(weighted: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
    """Projection of every position's weighted activations on their first principal axis.

    $$ C_p = (B V_1)_p, \\qquad B_{pk} = w_{kp} A_{kp} - \\tfrac1Z \\sum_q w_{kq} A_{kq} = (U \\Sigma V^T)_{pk} $$

    with the sign that makes the sum over p of C_p times the sum of the weighted activations positive.

    Differs from: pytorch-grad-cam, which leaves the sign to the decomposition.
    """
    centred = weighted - weighted.mean(axis=(1, 2), keepdims=True)
    plain = centred.sum(axis=-1)
    return leading_projection(centred, plain)
