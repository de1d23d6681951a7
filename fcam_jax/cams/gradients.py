"""The head's own map, and features weighted by the gradient of the class score.

A is a `Target`'s features, A_k a feature map, g the gradient of the class's score in them, p and q positions.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, MapNetwork, Target, default_stage
from fcam_jax.cams.weighted import WeightedMap
from fcam_jax.component import at_least, known
from fcam_jax.errors import InputError

_VARIANTS = ("paper", "released")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CAM(ActivationMap):
    """Class activation map, signed; without the bias of a linear head, with that of a head that pools maps.

    $$ C = \\sum_k W_{yk} A_k, \\quad \\text{or} \\quad C = \\sum_k \\max(W_{yk}, 0) A_k $$

    Attributes:
      clamp: the second form: negative weights, which carve holes into objects, count as 0, and a bias does not count.
        Where the map is not linear in the features, as of a head with layers of its own or ConvNeXt's, whose norm
        stands before the head, W is its gradient in them.

    Raises:
      InputError: the network has no map of its own, or its head sees a class token.

    Reference: Zhou et al., Learning deep features for discriminative localization, CVPR 2016, Eq. 2; Bae et al.,
      Rethinking class activation mapping, ECCV 2020, section 3.2, for the second form.
    """

    title = "CAM"
    whole = "the head's own map"
    clamp: bool = False

    def check(self, network: Any) -> None:
        name = f"the CAM {type(self).__name__.lower()!r}"
        if not isinstance(network, MapNetwork):
            raise InputError(
                f"{name} needs a method activation(features, labels) of {type(network).__name__}; "
                "'hirescam' is the same map, without one, of a head that averages and then is linear"
            )
        if default_stage(network) != -1:
            raise InputError(
                f"{name} needs a head on the map, and this one sees the class token alone: "
                "let it see the mean of the patches (pool=mean), or take 'gradcam', 'layercam' or 'legrad'"
            )

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        self.check(network := target.network)
        assert isinstance(network, MapNetwork)
        if not self.clamp:
            return network.activation(target.map, target.labels).astype(jnp.float32)
        # Where a position of the map is of the same position's features alone, the sum's gradient has its weights.
        weights = jax.grad(lambda features: network.activation(features, target.labels).sum())(target.features)
        return (jax.nn.relu(weights) * target.features).sum(axis=-1)


class GradCAM(WeightedMap):
    """Gradient-weighted class activation map.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad w_k = \\frac1Z \\sum_p g_{kp} $$

    Reference: Selvaraju et al., Grad-CAM, ICCV 2017, Eq. 1 and 2.
    """

    title = "GradCAM"

    def weighted(self, target: Target) -> Float[Array, "b h w c"]:
        weights = target.gradient().mean(axis=(1, 2), keepdims=True)
        return weights * target.features


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradCAMPP(WeightedMap):
    """GradCAM++ for a score whose exponential is the class's output.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad w_k = \\sum_p \\alpha_{kp}\\, \\mathrm{ReLU}(g_{kp}), $$
    $$ \\alpha_{kp} = \\frac{g_{kp}^2}{2 g_{kp}^2 + g_{kp}^3 \\sum_q A_{kq}} = \\frac{1}{2 + g_{kp} \\sum_q A_{kq}},
       \\quad 0 \\text{ where } g_{kp} = 0 $$

    The second form of alpha has no square or cube that could underflow. The factor exp(score), the same for all
    channels, is left out.

    Attributes:
      variant: "paper", or "released": w_k = sum_p ReLU(g_kp)^3.

    Differs from: the released F-CAM program, whose division by alpha's denominator is lost, so that alpha = g^2;
      F-CAM's published GradCAM++ seeds are of that. Programs that sum A g^3 over positions in the denominator.

    Reference: Chattopadhay et al., Grad-CAM++, WACV 2018, Eq. 19 for alpha.
    """

    title = "GradCAM++"
    variant: str = "paper"

    def __post_init__(self) -> None:
        known(self, variant=_VARIANTS)

    def weighted(self, target: Target) -> Float[Array, "b h w c"]:
        gradient, features = target.gradient(), target.features
        positive = jax.nn.relu(gradient)
        if self.variant == "released":
            shares = positive**3
        else:
            denominator = 2 + gradient * features.sum(axis=(1, 2), keepdims=True)
            shares = positive / jnp.where(denominator == 0, jnp.inf, denominator)
        return shares.sum(axis=(1, 2), keepdims=True) * features


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothGradCAMPP(WeightedMap):
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

    title = "Smooth-GradCAM++"
    variant: str = "paper"
    samples: int = 4
    std: float = 0.3

    def __post_init__(self) -> None:
        known(self, variant=_VARIANTS)
        at_least(self, samples=1, std=0)

    def weighted(self, target: Target) -> Float[Array, "b h w c"]:
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
        return shares.sum(axis=(1, 2), keepdims=True) * features


def _alpha(gradients: Float[Array, "b n h w c"], features: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    # Numerator and denominator are divided by the largest square, so that neither underflows.
    largest = jnp.abs(gradients).max(axis=1)
    relative = gradients / jnp.where(largest == 0, 1, largest)[:, None]
    squares, cubes = (relative**2).mean(axis=1), (relative**3).mean(axis=1)
    denominator = 2 * squares + largest * cubes * features.sum(axis=(1, 2), keepdims=True)
    return squares / jnp.where(denominator == 0, jnp.inf, denominator)


class XGradCAM(WeightedMap):
    """Axiom-based Grad-CAM.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w_k = \\frac{\\sum_p g_{kp} A_{kp}}{\\sum_p A_{kp}}, \\quad 0 \\text{ for a channel that sums to } 0 $$

    Reference: Fu et al., Axiom-based Grad-CAM, BMVC 2020, Eq. 8.
    """

    title = "XGradCAM"

    def weighted(self, target: Target) -> Float[Array, "b h w c"]:
        features = target.features
        mass = features.sum(axis=(1, 2), keepdims=True)
        live = mass != 0
        weights = (target.gradient() * features).sum(axis=(1, 2), keepdims=True) / jnp.where(live, mass, 1.0)
        return jnp.where(live, weights, 0.0) * features


class LayerCAM(WeightedMap):
    """LayerCAM of one stage; several are fused by `fusion`.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k \\mathrm{ReLU}(g_k) \\odot A_k\\Big) $$

    Reference: Jiang et al., LayerCAM, IEEE TIP 2021, Eq. 5 to 7.
    """

    title = "LayerCAM"

    def weighted(self, target: Target) -> Float[Array, "b h w c"]:
        return jax.nn.relu(target.gradient()) * target.features


class HiResCAM(WeightedMap):
    """The share of every position in the score, to first order; signed.

    $$ C = \\sum_k g_k \\odot A_k $$

    Where average pooling and a linear layer follow, Z C is CAM and the sum of C the score without its bias.

    Differs from: programs that take its ReLU, which the paper does for display.

    Reference: Draelos and Carin, Use HiResCAM instead of Grad-CAM, 2020.
    """

    title = "HiResCAM"

    def weighted(self, target: Target) -> Float[Array, "b h w c"]:
        return target.gradient() * target.features

    def collapsed(self, weighted: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
        """Their sum, with its sign."""
        return self.added(weighted)


class ElementwiseGradCAM(WeightedMap):
    """Positive products of every unit and its gradient; LayerCAM where no feature is negative.

    $$ C = \\sum_k \\mathrm{ReLU}(g_k \\odot A_k) $$

    Reference: Pillai and Pirsiavash, Explainable models with consistent interpretations, AAAI 2021.
    """

    title = "Element-wise Grad-CAM"

    def weighted(self, target: Target) -> Float[Array, "b h w c"]:
        return jax.nn.relu(target.gradient() * target.features)


# CAMs of any stage of any network, which others build on.
OF_ONE_GRADIENT: dict[str, type[ActivationMap]] = {
    "gradcam": GradCAM,
    "gradcampp": GradCAMPP,
    "xgradcam": XGradCAM,
    "layercam": LayerCAM,
    "hirescam": HiResCAM,
    "elementwise": ElementwiseGradCAM,
}
