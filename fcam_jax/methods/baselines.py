"""What the methods are compared with and nothing is trained for: the centre, a pretrained classifier, a decision."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from fcam_jax.component import at_least
from fcam_jax.data.classes import imagenet_classes
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ByCam, ClassifierTraining, Outcome
from fcam_jax.methods.contract import Localizer
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.import_weights import count_classes
from fcam_jax.types import Batch, Localization


@dataclasses.dataclass(frozen=True)
class Center:
    """The same map for every image: a Gaussian at its centre. A method below it has learnt nothing of places.

    Only the order of the pixels counts, so the width of the Gaussian does not. Class scores are the classifier's.

    Reference: Choe et al., CVPR 2020, section 4.3.
    """

    classes: bool = True  # whether the model has class scores; without them there are none here

    def localize(self, model: Any, batch: Batch) -> Localization:
        """The Gaussian and the classifier's scores."""
        images = jnp.asarray(batch.images)
        b, h, w, _ = images.shape
        logits = model(images, train=False)[1] if self.classes else None
        return Localization(jnp.broadcast_to(center_map(h, w), (b, h, w)), logits)


def center_map(height: int, width: int) -> Float[Array, "{height} {width}"]:
    """An isotropic Gaussian at the centre of the image, 1 at most.

    $$ \\exp(-|p - c|^2 / 2 s^2), \\quad s = \\max(h, w) / 3 $$
    """
    y = jnp.arange(height) - (height - 1) / 2
    x = jnp.arange(width) - (width - 1) / 2
    return jnp.exp(-(y[:, None] ** 2 + x**2) / (2 * (max(height, width) / 3) ** 2))


@dataclasses.dataclass(frozen=True)
class Decision:
    """F-CAM's own decision where the object is, without a threshold: 1 where foreground is likelier than background.

    Every threshold cuts such a map alike, so its figures are at no threshold.
    """

    method: Localizer

    def localize(self, model: Any, batch: Batch) -> Localization:
        """The more likely region of every pixel."""
        found = self.method.localize(model, batch)
        return Localization((found.maps > 0.5).astype(jnp.float32), found.logits)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained(ClassifierTraining):
    """The pretrained classifier as it is, which whoever trains on image labels has to better; nothing is trained.

    Its classes are those that it was pretrained on, not the data set's, so an image's map is the CAM of the class which
    the network itself predicts, $\\arg\\max_c g(X)_c$.

    Attributes:
      num_classes: scores of the network; 0: as many as the weight file has.
    """

    title = "ImageNet CAM"
    has_classes = False
    epochs = 0
    whole_file = True
    num_classes: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_classes=0)

    def resolved(self, init: str) -> "Pretrained":
        """With the number of classes of the weight file; a run that has noted it needs the file no more.

        Raises:
          InputError: there is no weight file, it cannot be read, or it has no classification layer.
        """
        if self.num_classes:
            return self
        of = "classifier.method=pretrained"
        if not init:
            raise InputError(f"{of} shows what a pretrained network finds; name its file by --config.model.init=FILE")
        classes = count_classes(init)
        if classes is None:
            raise InputError(
                f"model.init={init} has no classification layer, and {of} needs the one that was pretrained; name the "
                "whole network's file"
            )
        return dataclasses.replace(self, num_classes=classes)

    def classes(self, of_data: int) -> int:
        return self.num_classes

    def class_names(self) -> list[str | None] | None:
        """ImageNet's, of as many; a file does not say."""
        names = imagenet_classes()
        return [*names] if self.num_classes == len(names) else [None] * self.num_classes

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """There is none: a run of this method has no step."""
        raise AssertionError("a pretrained classifier is not trained")

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """CAM of the predicted class at the image's size, in [0, 1]; no scores of the data set's classes."""
        _, logits = model(jnp.asarray(batch.images), train=False)
        return Localization(by_cam(model, dataclasses.replace(batch, labels=logits.argmax(axis=-1))).maps, None)
