"""F-CAM, stage 2: a classifier and the decoder that is trained on its stages (F-CAM, section 3)."""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from fcam_jax.models.classifier import Classifier, Images
from fcam_jax.models.decoder import Decoder
from fcam_jax.models.encoder import Keys, Map, Stage


class Fitted(nnx.Variable[jax.Array]):
    """A number that the run fits to its data, by no gradient; a change compiles nothing anew."""


class FCAM(nnx.Module):
    """A classifier, which no longer changes unless both are trained together, and a decoder on its stages."""

    def __init__(self, classifier: Classifier, decoder: Decoder, fitted: Iterable[str] = ()):
        """Put both together; `fitted` names the numbers that the run may fit, each 1 at first."""
        self.classifier = classifier
        self.decoder = decoder
        self.fitted = nnx.Dict({name: Fitted(jnp.ones((), jnp.float32)) for name in fitted})

    def __call__(
        self, images: Images, *, train: bool
    ) -> tuple[tuple[Stage, ...], Float[Array, "b k"], Float[Array, "b h w 2"]]:
        """The encoder's stages from high to low resolution, class scores, and scores of background and foreground.

        The latter are at the images' size, all scores before softmax, and images RGB in [0, 255]. With `train` the
        decoder's BatchNorm takes the batch's statistics and updates the running ones. The classifier runs in inference
        mode and passes no gradient, so that classification stays what it was.
        """
        stages, class_logits = jax.lax.stop_gradient(self.classifier(images, train=False))
        height, width = images.shape[1:3]
        return stages, class_logits, self.decoder(self._maps(stages), (height, width), train=train)

    def taken(self, stages: tuple[Stage, ...]) -> dict[int, Map]:
        """The maps of the stages that the decoder takes, by their positions; not that which is the image itself."""
        there = [index for index in self.decoder.takes if index > 0 or self.decoder.neck is None]
        return {index: self.classifier.map_of(stages[index]) for index in there}

    def decoded(
        self, images: Images, maps: Mapping[int, Map]
    ) -> tuple[Float[Array, "b h w 2"], Float[Array, "b h w 3"] | None]:
        """Scores of background and foreground and the image again, as of `training_pass`, from what was `taken`."""
        stages = [maps.get(index) for index in range(len(self.classifier.encoder.channels))]
        if self.decoder.neck is not None:
            stages[0] = self.classifier.normalize(images)
        height, width = images.shape[1:3]
        return self.decoder.with_image(stages, (height, width), train=True)

    def training_pass(
        self, images: Images, *, rng: Keys
    ) -> tuple[tuple[Stage, ...], Float[Array, "b k"], Float[Array, "b h w 2"], Float[Array, "b h w 3"] | None]:
        """What a call with `train=True` gives, and the image again in [0, 1], None without a head for it.

        With a key for every image the classifier is trained, too: it then runs in training mode and passes gradients.
        """
        if rng is None:
            stages, class_logits = jax.lax.stop_gradient(self.classifier(images, train=False))
        else:
            stages, class_logits = self.classifier(images, train=True, rng=rng)
        height, width = images.shape[1:3]
        return stages, class_logits, *self.decoder.with_image(self._maps(stages), (height, width), train=True)

    def _maps(self, stages: tuple[Stage, ...]) -> list[Map]:
        return [self.classifier.map_of(stage) for stage in stages]
