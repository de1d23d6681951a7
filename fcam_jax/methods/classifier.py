"""Stage 1: a classifier, trained on image labels; it localizes by a CAM (F-CAM, Sec. 3.1, baseline models).

`ClassifierTraining` is what one way to train it brings of its own, `ClassifierMethod` is that way at work in a run.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam, Target, explain
from fcam_jax.cams.score_maps import resize_bilinear, score_map
from fcam_jax.component import defaults_of
from fcam_jax.data.pipeline import Order
from fcam_jax.data.source import Source
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.contract import image_keys, rate_of_layers
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import At, Encoder, unchanged
from fcam_jax.models.heads import Head
from fcam_jax.types import DATA_AXIS, Batch, Localization

# The loss over the global batch, class scores of this device's images if there are any, and further figures to log.
Outcome = tuple[Float[Array, ""], Float[Array, "b k"] | None, dict[str, Float[Array, ""]]]
Update = optax.GradientTransformation
ByCam = Callable[
    ..., Localization
]  # of model and batch, by the configuration's CAM, or by another that is given as `cam`


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierTraining:
    """A way to train stage 1; one that says nothing is a classifier trained by the cross-entropy of its labels.

    A way of its own is a frozen dataclass below this one: its fields are the settings, and it redefines what differs.
    A setting outside its range raises an `InputError` that names the field. `of_layers` are the keywords `dtype` and
    `rngs`.
    """

    title: ClassVar[str]  # what the tables call it
    plain: ClassVar[bool] = False  # F-CAM may go on training the classifier, and the tables call it by its CAM
    has_classes: ClassVar[bool] = True  # it scores the data set's classes; without them there is no stage 2
    by_cam: ClassVar[bool] = True  # its map is made by the CAM of the configuration
    seed_stage: ClassVar[int | None] = None  # whose cells `seed_maps` has; None: that of the CAM of the configuration
    needs: ClassVar[tuple[str, ...]] = ()  # fields of `Batch` besides images, labels and index: "objects"
    selection: ClassVar[str | None] = None  # of its best model, in the place of `validation.selection`
    epochs: ClassVar[int | None] = None  # in the place of `classifier.epochs`
    whole_file: ClassVar[bool] = False  # the classification layer of `model.init` is taken, too
    default_encoder: ClassVar[str] = ""  # that it brings into a configuration for which nobody names one
    encoder_keywords: ClassVar[Mapping[str, Any]] = {}  # of the encoder, where it takes them
    bias_factor: ClassVar[float] = 1.0  # how much faster biases learn than weights
    trainable: ClassVar[Any] = nnx.Param  # filter of the variables that gradients change

    # What is trained.

    def resolved(self, init: str) -> "ClassifierTraining":
        """The settings with what they leave to the weight file `model.init` filled in."""
        return self

    def classes(self, of_data: int) -> int:
        """Number of scores of the network, given that of the data set's classes."""
        return of_data

    def class_names(self) -> list[str | None] | None:
        """What the scores are called, where they are not of the data set's classes."""
        return None

    def encoder_settings(self, encoder: Callable[..., Encoder]) -> dict[str, Any]:
        """Keywords of an encoder under this way, given what builds it; they go before those of the configuration.

        By default `encoder_keywords`, as far as it takes them.
        """
        return {name: one for name, one in self.encoder_keywords.items() if name in defaults_of(encoder)}

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> Head | None:
        """A head of its own; None for that of the configuration."""
        return None

    def extend(self, network: Classifier, **of_layers: Any) -> Classifier:
        """The network with what this way adds to it: branches, a second network, a memory, as attributes of it."""
        return network

    def load(self, network: Classifier) -> None:
        """Weights out of files of its own into what it adds, before the first step; those of `model.init` are there."""

    # What it is trained on.

    def training_records(self, sources: Mapping[str, Source], seed: int) -> Source | None:
        """Records of its own to train on, out of the data set's splits; None for the split "train"."""
        return None

    def order(self, records: Source, seed: int) -> Order | None:
        """An order of its own of the training images; None for a new shuffle every epoch."""
        return None

    # How it is trained, and what it finds.

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """Runs per device inside the mapped step: loss and figures are reduced over `DATA_AXIS`, the scores are not."""
        return plain(model, batch, rng)

    def learning_rate_factor(self, path: tuple[Any, ...], default: float) -> float:
        """Factor on the rate of the variable at a path; `default` is higher for layers that are not pretrained."""
        return self.bias_factor * default if path[-1] == "bias" else default

    def optimizer(self, default: Update, schedule: optax.Schedule) -> Update:
        """The update from gradients, given that of the configuration and its rate by step."""
        return default

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """Maps of the batch's labels at the image's size, in [0, 1], and scores of the data set's classes.

        The network is in inference mode; `by_cam` localizes by the CAM of the configuration, or by another one, `cam`.
        """
        return by_cam(model, batch)

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b _ _"]:
        """The maps that F-CAM draws its seeds from, of the labels, at the cells of `seed_stage`, or else of `cam`."""
        return cam(target)

    @property
    def own_head(self) -> bool:
        """Whether it has a head of its own."""
        return type(self).head is not ClassifierTraining.head


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain(ClassifierTraining):
    """The classifier trained by the cross-entropy of the images as they are (F-CAM, Eq. 3, first term)."""

    title = "CAM"
    plain = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassAgnostic(ClassifierTraining):
    """A way whose network learns where objects are, of any class, and has no class scores."""

    has_classes = False
    by_cam = False
    needs = ("objects",)

    def class_names(self) -> list[str | None] | None:
        """Its only score is of any object."""
        return ["object"]


@dataclasses.dataclass(frozen=True)
class SeedMaps:
    """What F-CAM draws its seeds from, as the way to train the classifier has it."""

    training: ClassifierTraining
    cam: Cam  # of the configuration

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The maps of the labels."""
        return self.training.seed_maps(target, self.cam)

    @property
    def finest(self) -> int:
        """Position of the stage whose cells the maps have."""
        return self.cam.finest if self.training.seed_stage is None else self.training.seed_stage


@dataclasses.dataclass(frozen=True)
class ClassifierMethod:
    """A way to train stage 1, at work in a run."""

    cam: Cam
    cam_convention: str  # how its map is brought to the image's size (see `cams.score_maps.score_map`)
    new_layers: tuple[tuple[str, ...], ...]  # prefixes of the paths of variables that were not pretrained
    new_layers_factor: float  # how much faster these learn
    training: ClassifierTraining = Plain()

    @property
    def trainable(self) -> Any:
        """As the way has it."""
        return self.training.trainable

    def loss(
        self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The way's loss of the global batch and its figures; accuracy in percent where there are class scores."""
        loss, logits, figures = self.training.loss(model, batch, rng, step)
        if logits is None:
            return loss, figures
        correct = logits.argmax(axis=-1) == batch.labels
        return loss, {"accuracy": jax.lax.pmean(100.0 * correct.mean(), DATA_AXIS), **figures}

    def localize(self, model: Classifier, batch: Batch) -> Localization:
        """Score maps of the true label at the image's size, in [0, 1], by the CAM or as the way has it."""
        by_cam = functools.partial(localize_by_cam, cam=self.cam, convention=self.cam_convention)
        return self.training.localize(model, batch, by_cam)

    def learning_rate_factor(self, path: tuple[Any, ...]) -> float:
        """`new_layers_factor` for new layers and 1 for pretrained ones, unless the way says otherwise."""
        default = rate_of_layers(path, self.new_layers, self.new_layers_factor)
        return self.training.learning_rate_factor(path, default)


def new_layers(network: Classifier) -> tuple[tuple[str, ...], ...]:
    """Prefixes of the paths of a classifier's variables that no weight file has: all beside the encoder, some in it."""
    beside = {str(path[0]) for path, _ in nnx.to_flat_state(nnx.state(network))} - {"encoder"}
    return (*((name,) for name in sorted(beside)), *(("encoder", name) for name in network.encoder.new_layers))


def plain(
    model: Classifier, batch: Batch, rng: Key[Array, ""], *, images: Array | None = None, at: At = unchanged
) -> Outcome:
    """Mean cross-entropy -log g(X)[y] of the global batch, class scores, and no further figures.

    The batch's images may be replaced by others, and `at` changes the maps at the encoder's places.
    """
    images = jnp.asarray(batch.images) if images is None else images
    _, logits = model(images, train=True, rng=image_keys(rng, batch), at=at)
    losses = cross_entropy(logits, jnp.asarray(batch.labels))
    return jax.lax.pmean(losses.mean(), DATA_AXIS), logits, {}


def enlarged(model: Classifier, maps: Float[Array, "b _ _"], batch: Batch, stage: int = -1) -> Float[Array, "b h w"]:
    """Maps at the cells of a stage, brought to the size of the batch's images bilinearly."""
    size = batch.images.shape[1], batch.images.shape[2]
    return resize_bilinear(maps, size, model.grid(stage, size))


def localize_by_cam(model: Classifier, batch: Batch, cam: Cam, convention: str) -> Localization:
    """Score maps of a classifier by a CAM of the batch's labels; what is drawn for an image is the same every time."""
    images = jnp.asarray(batch.images)
    stages, logits = model(images, train=False)
    keys = image_keys(jax.random.key(0), batch)
    target = explain(model, images, stages, jnp.asarray(batch.labels), keys)
    size = images.shape[1], images.shape[2]
    return Localization(score_map(cam(target), size, convention, model.grid(cam.finest, size)), logits)
