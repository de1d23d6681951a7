"""The pretrained classifier as it is: what it localizes before anything is trained on the data set.

Whoever trains on image labels has to be better than this. Its classes are those that it was pretrained on, not the data
set's, so an image's map is that of the class which the network itself predicts.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from fcam_jax.component import at_least
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ByCam, ClassifierTraining, Outcome
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.import_weights import count_classes
from fcam_jax.types import Batch, Localization


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained(ClassifierTraining):
    """Localization by the CAM of the predicted class, $\\arg\\max_c g(X)_c$; nothing is trained.

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
        """Those of the weight file."""
        return self.num_classes

    def class_names(self) -> list[str | None] | None:
        """The file does not say."""
        return [None] * self.num_classes

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """There is none: a run of this method has no step."""
        raise AssertionError("a pretrained classifier is not trained")

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """CAM of the predicted class at the image's size, in [0, 1]; no scores of the data set's classes."""
        _, logits = model(jnp.asarray(batch.images), train=False)
        return Localization(by_cam(model, dataclasses.replace(batch, labels=logits.argmax(axis=-1))).maps, None)
