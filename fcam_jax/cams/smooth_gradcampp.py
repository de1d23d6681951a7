"""Smooth-GradCAM++: GradCAM++ with the gradients of several noisy inputs."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.cams.gradcampp import VARIANTS
from fcam_jax.component import at_least, known


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothGradCAMPP(ActivationMap):
    """GradCAM++ whose gradients and their powers are means over noisy inputs; the features are the clean image's.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w_k = \\sum_p \\alpha_{kp}\\, \\mathrm{ReLU}(\\overline{g_{kp}}), \\qquad
       \\alpha_{kp} = \\frac{\\overline{g_{kp}^2}}{2\\, \\overline{g_{kp}^2} + \\overline{g_{kp}^3} \\sum_q A_{kq}},
       \\quad 0 \\text{ where all } g_{kp} = 0 $$

    All samples pass the network at once: memory is that of a forward and backward pass of `samples` times the batch.

    Attributes:
      variant: "paper", or "released": ReLU(g) and the features that are weighted are those of the last noisy input
        alone, and the denominator's second term is sum_q of the mean of g_kq^3 times A_kq.
      samples: n, noisy inputs for each image.
      std: standard deviation of the noise on the normalised input.

    Differs from: the paper's alpha, whose numerator is printed as the mean of g, where Grad-CAM++ has g^2; the
      released F-CAM program (`variant="released"`).

    Reference: Omeiza et al., Smooth Grad-CAM++, 2019.
    """

    title: ClassVar[str] = "Smooth-GradCAM++"
    variant: str = "paper"
    samples: int = 4
    std: float = 0.3

    def __post_init__(self) -> None:
        known(self, variant=VARIANTS)
        at_least(self, samples=1, std=0)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target's stage."""
        shape = (self.samples, *target.inputs.shape[1:])
        noise = jax.vmap(lambda key: jax.random.normal(key, shape))(target.keys)
        noisy = target.variations(target.inputs[:, None] + self.std * noise)
        features = target.features
        gradients = noisy.gradient().reshape(-1, self.samples, *features.shape[1:])
        if self.variant == "paper":
            alpha = _alpha(gradients, features)
            shares = alpha * jax.nn.relu(gradients.mean(axis=1))
        else:
            squares, cubes = (gradients**2).mean(axis=1), (gradients**3).mean(axis=1)
            denominator = 2 * squares + (cubes * features).sum(axis=(1, 2), keepdims=True)
            shares = squares / jnp.where(denominator == 0, jnp.inf, denominator) * jax.nn.relu(gradients[:, -1])
            features = noisy.features.reshape(gradients.shape)[:, -1]
        return jax.nn.relu((shares.sum(axis=(1, 2), keepdims=True) * features).sum(axis=-1))


def _alpha(gradients: Float[Array, "b n h w c"], features: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    # Numerator and denominator are divided by the largest square, so that neither underflows.
    largest = jnp.abs(gradients).max(axis=1)
    relative = gradients / jnp.where(largest == 0, 1, largest)[:, None]
    squares, cubes = (relative**2).mean(axis=1), (relative**3).mean(axis=1)
    denominator = 2 * squares + largest * cubes * features.sum(axis=(1, 2), keepdims=True)
    return squares / jnp.where(denominator == 0, jnp.inf, denominator)
