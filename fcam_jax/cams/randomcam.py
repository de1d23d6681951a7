"""The baseline of CAMs: weights that know nothing of the network."""

import jax
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target


class RandomCAM(ActivationMap):
    """Features weighted at random: what a CAM must surpass for its weights to say anything.

    $$ C = \\sum_k w_k A_k, \\qquad w_k \\sim U(-1, 1) $$

    The weights of an image are drawn from its own key. What it finds is due to the features alone; signed.

    Differs from: the program, which takes the ReLU, so that many a map of positive features is 0.

    Reference: no paper; the program pytorch-grad-cam (Gildenblat, 2021).
    """

    title = "Random-CAM"

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        features = target.features
        weights = jax.vmap(lambda key: jax.random.uniform(key, features.shape[-1:], minval=-1.0))(target.keys)
        return (weights[:, None, None] * features).sum(axis=-1)
