"""The feature explanation method: where channels are unusually strong; no class and no gradient take part."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.component import at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class FEM(ActivationMap):
    """Counts the channels that stand out at a position, each by its mean; the same for all classes.

    $$ C_p = \\sum_k \\mu_k\\, [A_{kp} > \\mu_k + \\kappa\\, \\sigma_k] $$

    mu and sigma are a channel's mean and standard deviation over the positions.

    Attributes:
      sigmas: kappa, how many deviations above the mean a value must be.

    Raises:
      InputError: a setting is outside its range.

    Differs from: pytorch-grad-cam, which sums the features, weighted by the share of positions that stand out.

    Reference: Fuad et al., Features understanding in 3D CNNs for actions recognition in video, IPTA 2020.
    """

    title = "FEM"
    sigmas: float = 2.0

    def __post_init__(self) -> None:
        at_least(self, sigmas=0)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        features = target.features
        mean, deviation = (found(axis=(1, 2), keepdims=True) for found in (features.mean, features.std))
        strong = features > mean + self.sigmas * deviation
        # A product with 0 keeps a NaN, as the other CAMs do.
        return (mean * jnp.where(strong, 1.0, 0.0)).sum(axis=-1)
