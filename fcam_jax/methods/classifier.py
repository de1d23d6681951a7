"""Stage 1: the classifier alone, trained on image labels; it localizes by a CAM (F-CAM, Sec. 3.1, baseline models)."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam, explain
from fcam_jax.cams.score_maps import score_map
from fcam_jax.methods.contract import image_keys, rate_of_layers
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import At, unchanged
from fcam_jax.types import DATA_AXIS, Batch, Localization


@runtime_checkable
class Objective(Protocol):
    """What a classifier is trained by: cross-entropy of the images as they are, or what another method puts there."""

    def __call__(
        self, model: Classifier, batch: Batch, rng: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, "b k"], dict[str, Float[Array, ""]]]:
        """Loss over the global batch, class scores of this device's images, and further figures to log.

        Runs per device inside the mapped step: loss and figures are reduced over `DATA_AXIS`, the scores are not.
        """
        ...


def cross_entropy(logits: Float[Array, "b k"], labels: Int[Array, " b"]) -> Float[Array, " b"]:
    """Cross-entropy -log softmax(logits)[y] of every image, float32."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]


def plain(
    model: Classifier, batch: Batch, rng: Key[Array, ""], *, at: At = unchanged
) -> tuple[Float[Array, ""], Float[Array, "b k"], dict[str, Float[Array, ""]]]:
    """Mean cross-entropy -log g(X)[y] of the global batch (F-CAM, Eq. 3, first term): an `Objective`.

    Args:
      model: the classifier.
      batch: this device's images.
      rng: key of the step.
      at: changes the maps at the encoder's places.
    """
    _, logits = model(jnp.asarray(batch.images), train=True, rng=image_keys(rng, batch), at=at)
    losses = cross_entropy(logits, jnp.asarray(batch.labels))
    return jax.lax.pmean(losses.mean(), DATA_AXIS), logits, {}


@dataclasses.dataclass(frozen=True)
class ClassifierMethod:
    """Training by image labels; localization by a CAM of the given label.

    Attributes:
      cam: the CAM.
      cam_convention: how its map is brought to the image's size, "protocol" or "fcam" (see `cams.score_maps`).
      new_layers: prefixes of the paths of variables that were not pretrained, which learn faster.
      new_layers_factor: how much faster.
      objective: what it is trained by.
    """

    cam: Cam
    cam_convention: str
    new_layers: tuple[tuple[str, ...], ...]
    new_layers_factor: float
    objective: Objective = plain
    trainable: Any = nnx.Param

    def loss(
        self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The objective's loss of the global batch and its figures; accuracy in percent."""
        loss, logits, figures = self.objective(model, batch, rng)
        correct = logits.argmax(axis=-1) == batch.labels
        return loss, {"accuracy": jax.lax.pmean(100.0 * correct.mean(), DATA_AXIS), **figures}

    def localize(self, model: Classifier, batch: Batch) -> Localization:
        """CAM of the true label at the image's size, in [0, 1]."""
        return localize_by_cam(model, batch, self.cam, self.cam_convention)

    def learning_rate_factor(self, path: tuple[Any, ...]) -> float:
        """`new_layers_factor` for new layers, 1 for pretrained ones."""
        return rate_of_layers(path, self.new_layers, self.new_layers_factor)


def localize_by_cam(model: Classifier, batch: Batch, cam: Cam, convention: str) -> Localization:
    """Score maps of a classifier by a CAM of the batch's labels; what is drawn for an image is the same every time."""
    images = jnp.asarray(batch.images)
    stages, logits = model(images, train=False)
    keys = image_keys(jax.random.key(0), batch)
    maps = cam(explain(model, images, stages, jnp.asarray(batch.labels), keys))
    return Localization(score_map(maps, (images.shape[1], images.shape[2]), convention), logits)
