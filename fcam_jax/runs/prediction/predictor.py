"""The network on batches of images: maps of given or predicted classes, and class scores.

In: a trained model, or a classifier and the name of a CAM. Out: a `Predictor`, which is compiled once, for one size of
batches, and works on all devices.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, UInt8

from fcam_jax.cams import with_settings
from fcam_jax.cams.contract import Cam
from fcam_jax.cams.fusion import Fused, fused
from fcam_jax.methods.classifier import localize_by_cam
from fcam_jax.methods.contract import Localizer
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.fcam import FCAM
from fcam_jax.runtime.compiler_options import compiler_options
from fcam_jax.training.placed import SPREAD, data_mesh, replicate
from fcam_jax.types import Batch, Localization

Images = UInt8[np.ndarray, "b h w 3"]
PROBABILITIES = ("softmax", "sigmoid")  # of classes of which an image has one, or of any number
PREDICTED = -1  # in the place of a label: the class that is predicted for the image


@dataclasses.dataclass(frozen=True)
class Predicted:
    """What the network says about a batch of images."""

    maps: Float[np.ndarray, "b h w"]  # of the labels, at the size of the network's images, in [0, 1]
    logits: Float[np.ndarray, "b k"]  # class scores before softmax
    labels: Int[np.ndarray, " b"]  # class of each map
    probability: str = "softmax"  # one of `PROBABILITIES`

    def probabilities(self, i: int) -> Float[np.ndarray, " k"]:
        """Of an image's classes; a single class is there or not, which only a sigmoid can say."""
        logits = self.logits[i].astype(np.float64)
        powers = np.exp(logits - logits.max())
        if self.probability == "sigmoid" or len(logits) == 1:
            return 0.5 + 0.5 * np.tanh(0.5 * logits)
        return powers / powers.sum()


class Predictor:
    """A network and the way to its maps."""

    def __init__(self, model: Classifier | FCAM, localizer: Localizer, batch_size: int, probability: str = "softmax"):
        """Put the model, with its weights, on all devices.

        Args:
          model: the network.
          localizer: yields the maps.
          batch_size: images at a time; rounded up to a multiple of the devices.
          probability: one of `PROBABILITIES`.
        """
        self._probability = probability
        count = jax.device_count()
        self.batch_size = -(-batch_size // count) * count
        self._mesh = data_mesh(self.batch_size)
        structure, state = nnx.split(model)
        self._state = replicate(state, self._mesh)

        @functools.partial(jax.jit, compiler_options=compiler_options(jax.default_backend()))
        def predict(state: Any, images: Array, wanted: Array) -> tuple[Array, Array, Array]:
            network = nnx.merge(structure, state)
            # The compiler sees that the localizer asks for the same pass, so there is one.
            logits = network(images, train=False)[1]
            labels = jnp.where(wanted == PREDICTED, logits.argmax(axis=-1), wanted)
            # Index 0 for all: what a CAM draws at random depends on the image alone, not on its place.
            batch = Batch(images, labels, jnp.zeros_like(labels), jnp.ones(len(images)))
            return jnp.asarray(localizer.localize(network, batch).maps), logits, labels

        self._predict = predict

    def __call__(self, images: Images, labels: Int[np.ndarray, " b"]) -> Predicted:
        """Maps and class scores of at most a batch of images; fewer are padded, so that nothing is compiled anew.

        Args:
          images: at the size of the network's images.
          labels: the classes whose maps are wanted, or `PREDICTED`.
        """
        count, missing = len(images), self.batch_size - len(images)
        given = (
            np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)]),
            np.pad(labels.astype(np.int32), (0, missing)),
        )
        spread = jax.device_put(given, NamedSharding(self._mesh, SPREAD))
        maps, logits, found = map(np.asarray, self._predict(self._state, *spread))
        scores = logits[:count].astype(np.float32)
        return Predicted(maps[:count].astype(np.float32), scores, found[:count], self._probability)


@dataclasses.dataclass(frozen=True)
class ByCam:
    """Localization by a CAM of the batch's labels, of a classifier or of F-CAM's."""

    name: str
    stages: tuple[str, ...] = ()  # that are fused, none for the top one
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # where they differ from the CAM's defaults

    @property
    def title(self) -> str:
        """Name and stages."""
        return " ".join([self.name, *self.stages])

    def check(self, model: Classifier | FCAM) -> None:
        """Raise an `InputError` where the model cannot be explained by it."""
        self._cam(_classifier(model))

    def localize(self, model: Any, batch: Batch) -> Localization:
        """The CAM of a classifier, or of F-CAM's."""
        classifier = _classifier(model)
        return localize_by_cam(classifier, batch, self._cam(classifier), "protocol")

    def _cam(self, classifier: Classifier) -> Cam:
        return fused(with_settings(self.name, self.settings), self.stages, len(classifier.encoder.channels))


def passes(localizer: Localizer, model: Classifier | FCAM) -> int:
    """Passes of the network that an image takes for its feature maps, see `ChannelCAM`; 0 for most CAMs."""
    classifier = _classifier(model)
    cam = localizer._cam(classifier) if isinstance(localizer, ByCam) else getattr(localizer, "cam", None)
    return cam.passes(classifier.encoder.channels) if isinstance(cam, Fused) else 0


def _classifier(model: Classifier | FCAM) -> Classifier:
    return model.classifier if isinstance(model, FCAM) else model
