"""F-CAM, stage 2: a classifier and the decoder that is trained on its stages (F-CAM, section 3)."""

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Num

from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.encoder import Keys, Map, Stage


class FCAM(nnx.Module):
    """A classifier, which no longer changes unless both are trained together, and a decoder on its stages."""

    def __init__(self, classifier: Classifier, decoder: Decoder):
        self.classifier = classifier
        self.decoder = decoder

    def __call__(
        self, images: Num[Array | np.ndarray, "b h w 3"], *, train: bool
    ) -> tuple[tuple[Stage, ...], Float[Array, "b k"], Float[Array, "b h w 2"]]:
        """Stages, class scores and map scores.

        The classifier runs in inference mode and passes no gradient, so that classification stays what it was.

        Args:
          images: RGB in [0, 255].
          train: the decoder's BatchNorm takes the batch's statistics and updates the running ones.

        Returns:
          The encoder's stages from high to low resolution, class scores, and scores of background and foreground
          at the images' size; both scores before softmax.
        """
        stages, class_logits = jax.lax.stop_gradient(self.classifier(images, train=False))
        height, width = images.shape[1:3]
        return stages, class_logits, self.decoder(self._maps(stages), (height, width), train=train)

    def training_pass(
        self, images: Num[Array | np.ndarray, "b h w 3"], *, rng: Keys
    ) -> tuple[
        tuple[Stage, ...],
        Float[Array, "b k"],
        Float[Array, "b h w 2"],
        Float[Array, "b h w 3"] | None,
    ]:
        """What further terms of the loss need besides what a call with `train=True` gives.

        Args:
          images: RGB in [0, 255].
          rng: a key for every image, to train the classifier too: it then runs in training mode and passes gradients.
            None leaves it frozen.

        Returns:
          What a call returns, and the reconstructed image in [0, 1], None where the decoder has no head for it.
        """
        if rng is None:
            stages, class_logits = jax.lax.stop_gradient(self.classifier(images, train=False))
        else:
            stages, class_logits = self.classifier(images, train=True, rng=rng)
        height, width = images.shape[1:3]
        return stages, class_logits, *self.decoder.with_image(self._maps(stages), (height, width), train=True)

    def _maps(self, stages: tuple[Stage, ...]) -> list[Map]:
        return [self.classifier.map_of(stage) for stage in stages]
