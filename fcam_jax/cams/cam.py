"""CAM: the class's own map of the head: the features of the top stage weighted by the class's row of weights."""

from jaxtyping import Array, Float, Int

from fcam_jax.cams.contract import Head


def cam(features: Float[Array, "b h w c"], head: Head, labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
    """Class activation map, signed; without the bias of a linear head, with that of a head that pools maps.

    $$ C = \\sum_k W_{yk} A_k $$

    Args:
      features: activations A of the top stage.
      head: the classifier's head; it reads the map out of itself.
      labels: class y of each image.

    Reference: Zhou et al., Learning deep features for discriminative localization, CVPR 2016, Eq. 2.
    """
    return head.activation(features, labels)
