"""F-CAM, stage 2: a frozen classifier and the decoder that is trained on its stages (F-CAM, section 3)."""

import jax
from flax import nnx
from jaxtyping import Array, Float, Num

from fcam_jax.models.classifier import Classifier
from fcam_jax.models.decoder import Decoder


class FCAM(nnx.Module):
    """A classifier that no longer changes and a decoder on its stages."""

    def __init__(self, classifier: Classifier, decoder: Decoder):
        self.classifier = classifier
        self.decoder = decoder

    def __call__(
        self, images: Num[Array, "b h w 3"], *, train: bool
    ) -> tuple[tuple[Float[Array, "b _ _ _"], ...], Float[Array, "b k"], Float[Array, "b h w 2"]]:
        """Stages, class scores and map scores.

        The classifier runs in inference mode and passes no gradient, so that classification stays what it was.

        Args:
          images: RGB in [0, 255].
          train: the decoder's BatchNorm takes the batch's statistics and updates the running ones; the call must
            then be mapped over the mesh axis.

        Returns:
          The encoder's stages from high to low resolution, class scores, and scores of background and foreground
          at the images' size; both scores before softmax.
        """
        stages, class_logits = jax.lax.stop_gradient(self.classifier(images, train=False))
        height, width = images.shape[1:3]
        return stages, class_logits, self.decoder(stages, (height, width), train=train)
