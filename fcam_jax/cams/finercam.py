"""Finer-CAM: what tells a class from those that are most like it."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.cams.gradients import OF_ONE_GRADIENT
from fcam_jax.cams.targets import Classes
from fcam_jax.component import at_least, known


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinerCAM(ActivationMap):
    """A CAM of the difference between the class's score and those of the classes nearest to it.

    $$ s = z_y - \\gamma \\sum_{d \\in D} w_d z_d, \\qquad w_d = \\frac{\\exp z_d}{\\sum_{e \\in D} \\exp z_e} $$

    D are the classes d other than y with the smallest |z_d - z_y|. Where a few classes share a look, as those of birds,
    it leaves out what they share. D and w are those of the image as it is: the CAM's gradient takes them as constants.

    Attributes:
      base: the CAM: "gradcam", "gradcampp", "xgradcam", "layercam", "hirescam" or "elementwise".
      references: how many classes D holds, at most all others.
      gamma: strength of the comparison; 0 is the base CAM itself.
      eigen_smooth: that of the base CAM.

    Raises:
      InputError: a setting is outside its range; what is explained is no class score.

    Differs from: the authors' program and pytorch-grad-cam, which differentiate the weights w too.

    Reference: Zhang et al., Finer-CAM, CVPR 2025, for one class d; several are weighted as in the authors' program.
    """

    title = "Finer-CAM"
    base: str = "gradcam"
    references: int = 3
    gamma: float = 1.0
    eigen_smooth: bool = False

    def __post_init__(self) -> None:
        known(self, base=OF_ONE_GRADIENT)
        at_least(self, references=1, gamma=0)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        labels = target.labels  # refused where what is explained is no class score
        scores = target.network.score(target.stages[target.stage], target.stage).astype(jnp.float32)
        base = OF_ONE_GRADIENT[self.base](eigen_smooth=self.eigen_smooth)
        return base(dataclasses.replace(target, wanted=self.compared(labels, scores)))

    def compared(self, labels: Int[Array, " b"], scores: Float[Array, "b k"]) -> Classes:
        """The difference that is explained, given the classes and all scores of the unchanged images."""
        labels = labels[:, None]
        distances = jnp.abs(scores - jnp.take_along_axis(scores, labels, axis=1))
        others = jnp.where(jnp.arange(scores.shape[1]) == labels, jnp.inf, distances)
        nearest = jnp.argsort(others, axis=1)[:, : min(self.references, scores.shape[1] - 1)]
        weights = jax.nn.softmax(jnp.take_along_axis(scores, nearest, axis=1), axis=1)
        return Classes(
            jnp.concatenate([labels, nearest], axis=1),
            jnp.concatenate([jnp.ones(labels.shape), -self.gamma * weights], axis=1),
        )
