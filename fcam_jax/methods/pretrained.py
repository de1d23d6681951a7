"""The pretrained classifier as it is: what it localizes before anything is trained on the data set.

Whoever trains on image labels has to be better than this. Its classes are those that it was pretrained on, not the data
set's, so an image's map is that of the class which the network itself predicts.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam
from fcam_jax.methods.classifier import localize_by_cam
from fcam_jax.models.classifier import Classifier
from fcam_jax.types import Batch, Localization


@dataclasses.dataclass(frozen=True)
class PretrainedMethod:
    """Localization by the CAM of the predicted class, $\\arg\\max_c g(X)_c$; nothing is trained.

    Attributes:
      cam: the CAM.
      cam_convention: how its map is brought to the image's size, "protocol" or "fcam" (see `cams.score_maps`).
    """

    cam: Cam
    cam_convention: str
    trainable: Any = nnx.Param

    def loss(
        self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """There is none: a run of this method has no step."""
        raise AssertionError("a pretrained classifier is not trained")

    def localize(self, model: Classifier, batch: Batch) -> Localization:
        """CAM of the predicted class at the image's size, in [0, 1]; no scores of the data set's classes."""
        _, logits = model(jnp.asarray(batch.images), train=False)
        predicted = dataclasses.replace(batch, labels=logits.argmax(axis=-1))
        return Localization(localize_by_cam(model, predicted, self.cam, self.cam_convention).maps, None)

    def learning_rate_factor(self, path: tuple[Any, ...]) -> float:
        """1 everywhere."""
        return 1.0
