"""ShapleyCAM: gradients corrected by the curvature of the score, as Shapley values are to second order."""

import dataclasses
from typing import Any

import jax
from jaxtyping import Array, Float

from fcam_jax.cams.contract import Target
from fcam_jax.cams.targets import ClassScore, Wanted
from fcam_jax.cams.weighted import WeightedMap
from fcam_jax.component import known


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ReST(ClassScore):
    """The residual softmax target-class utility: score and log-probability of a class.

    $$ s = z_y + \\log \\mathrm{softmax}(z)_y $$

    Unlike the score it falls where those of other classes rise, and unlike the probability it has a gradient where that
    is close to 1.

    Reference: Cai, CAMs as Shapley value-based explainers, 2025.
    """

    def __call__(self, output: Any) -> Float[Array, ""]:
        return output[self.labels] + jax.nn.log_softmax(output)[self.labels]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapleyCAM(WeightedMap):
    """Grad-CAM with the Shapley value of every unit to second order, over the unit, in place of the gradient.

    $$ C = \\mathrm{ReLU}\\Big(\\sum_k w_k A_k\\Big), \\qquad
       w_k = \\frac1Z \\sum_p \\big(g - \\tfrac12 H A\\big)_{kp}, \\qquad H = \\partial^2 s / \\partial A^2 $$

    The product H A is one derivative of the gradient along A; H itself is never made. Of the class's score alone, H is
    0 where convolutions, ReLU and linear layers follow, and the map is Grad-CAM's.

    Attributes:
      utility: s of a class: "rest", its score and log-probability (`ReST`), or "score". A target that is no class score
        is explained as it is.

    Raises:
      InputError: the utility is unknown.

    Differs from: pytorch-grad-cam, where "rest" is a target to be asked for (`ClassifierOutputReST`).

    Reference: Cai, CAMs as Shapley value-based explainers, 2025, arXiv:2501.06261.
    """

    title = "ShapleyCAM"
    utility: str = "rest"

    def __post_init__(self) -> None:
        known(self, utility=("rest", "score"))

    def weighted(self, target: Target) -> Float[Array, "b h w c"]:
        if self.utility == "rest" and not (isinstance(target.wanted, Wanted) and type(target.wanted) is not ClassScore):
            target = dataclasses.replace(target, wanted=ReST(target.labels))
        features = target.features
        gradient = jax.grad(lambda features: target.score(features).sum())
        first, second = jax.jvp(gradient, (features,), (features,))
        weights = (first - second / 2).mean(axis=(1, 2), keepdims=True)
        return weights * features
