"""CAM: the class's own map of the head: the features of the top stage weighted by the class's row of weights."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, MapNetwork, Target
from fcam_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CAM(ActivationMap):
    """Class activation map, signed; without the bias of a linear head, with that of a head that pools maps.

    $$ C = \\sum_k W_{yk} A_k $$

    Raises:
      InputError: the network has no map of its own.

    Reference: Zhou et al., Learning deep features for discriminative localization, CVPR 2016, Eq. 2.
    """

    title: ClassVar[str] = "CAM"
    of_head: ClassVar[bool] = True

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""
        if not isinstance(target.network, MapNetwork):
            raise InputError(
                f"the CAM 'cam' needs a method activation(features, labels) of {type(target.network).__name__}; "
                "'hirescam' is the same map, without one, of a head that averages and then is linear"
            )
        return target.network.activation(target.map, target.labels).astype(jnp.float32)
