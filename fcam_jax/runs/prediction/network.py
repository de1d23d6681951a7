"""A network that predicts, with all that is known of it: out of a run, or out of a file of weights."""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int, UInt8

from fcam_jax.cams import with_settings
from fcam_jax.cams.contract import Cam
from fcam_jax.cams.fusion import Fused, fused
from fcam_jax.component import is_number
from fcam_jax.configuration.flat import setting
from fcam_jax.data.classes import same_name
from fcam_jax.data.images import Window
from fcam_jax.data.settings import tested_side
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.evaluation.box_accuracy import chose_none, threshold_of
from fcam_jax.evaluation.mirrored import Mirrored
from fcam_jax.methods.classifier import ClassifierMethod, localize_by_cam
from fcam_jax.methods.contract import Localizer
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.create import create
from fcam_jax.models.fcam import FCAM
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import advising
from fcam_jax.models.weights_by_name import located
from fcam_jax.runs.class_names import ClassNames, names_of_weights
from fcam_jax.runs.prediction.restored import Predicted, Threshold
from fcam_jax.runs.trained import load_trained
from fcam_jax.runtime.text import listed, printable
from fcam_jax.training.placed import Placed, data_mesh
from fcam_jax.types import Batch, Localization

logger = logging.getLogger(__name__)

PROBABILITIES = ("softmax", "sigmoid")  # of classes of which an image has one, or of any number
OF_WEIGHTS = ("num_classes", "final_stride", "size", "probability")  # what `imported_network` takes of a file's network
PREDICTED = -1  # in the place of a label: the class that is predicted for the image
# Where validation chose no threshold: F-CAM's own decision, foreground where it is likelier than background; and for
# CAMs what boxes of birds are best at with ImageNet's networks (0.3 to 0.5 hardly differ).
FCAM_THRESHOLD = Threshold(0.5, "own decision", of_maximum=False)
CAM_THRESHOLD = Threshold(0.4, "default")


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

    def cam(self, model: Classifier | FCAM) -> Cam:
        """The CAM for a network; raises an `InputError` where that cannot be explained by it."""
        network = _classifier(model)
        cam = with_settings(self.name, self.settings)
        cam.check(network)
        return fused(cam, self.stages, len(network.encoder.channels), network.cam_stage)

    def localize(self, model: Any, batch: Batch) -> Localization:
        """The CAM of a classifier, or of F-CAM's."""
        return localize_by_cam(_classifier(model), batch, self.cam(model), "protocol")


def predict(network: Any, localizer: Localizer, batch: Batch) -> tuple[Array, Array, Array]:
    """Maps of a batch's labels, or of those `PREDICTED`, class scores, and the maps' labels."""
    # The compiler sees that the localizer asks for the same pass, so there is one.
    logits = network(batch.images, train=False)[1]
    labels = jnp.where(batch.labels == PREDICTED, logits.argmax(axis=-1), batch.labels)
    found = localizer.localize(network, dataclasses.replace(batch, labels=labels))
    return jnp.asarray(found.maps), logits, labels


class Predictor:
    """A network and the way to its maps, compiled once, for one size of batches, on all devices."""

    def __init__(self, model: Classifier | FCAM, localizer: Localizer, batch_size: int, several: bool = False):
        """Put the model, with its weights, on all devices.

        Batches are rounded up to a multiple of these; `several` says that an image may be of several classes.
        """
        self._several = several
        self.batch_size = -(-batch_size // jax.device_count()) * jax.device_count()
        structure, state = nnx.split(model)
        self._placed = Placed(structure, {}, nnx.to_pure_dict(state), data_mesh(self.batch_size)).replicated()

        self._predict = self._placed.forward(lambda network, batch: predict(network, localizer, batch))

    def __call__(self, images: UInt8[np.ndarray, "b h w 3"], labels: Int[np.ndarray, " b"]) -> Predicted:
        """Maps of labels, or of those `PREDICTED`, and class scores of images of the network's size.

        There is at most a batch of them; fewer are padded, so that nothing is compiled anew.
        """
        count, missing = len(images), self.batch_size - len(images)
        images = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        # Index 0 for all: what a CAM draws at random depends on the image alone, not on its place.
        index, valid = np.zeros(len(images), np.int32), np.ones(len(images), np.float32)
        batch = Batch(images, np.pad(labels.astype(np.int32), (0, missing)), index, valid)
        maps, logits, found = (np.asarray(one)[:count] for one in self._predict(self._placed, batch))
        return Predicted(maps.astype(np.float32), logits.astype(np.float32), found, self._several)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with weights and all that is known of it."""

    model: Any  # `Classifier` or `FCAM`
    localizer: Localizer  # yields its maps
    title: str  # what the maps are called
    size: int  # side of its images
    threshold: Threshold  # for its maps
    class_names: ClassNames  # of its classes
    settings: dict[str, Any]  # what its maps depend on besides the weights, as JSON data
    probability: str = "softmax"  # one of `PROBABILITIES`
    window: Window = ()  # of its images, see `data.folder.Folder`
    mirror: bool = False  # whether its maps are means over an image and its mirror image

    def by_cam(self, cam: ByCam) -> "Network":
        """The same network with maps by a CAM, for which no threshold was validated; raises as `ByCam.cam`."""
        cam.cam(self.model)
        told = {"map": cam.name, "stages": list(cam.stages), "cam_settings": dict(cam.settings)}
        settings = {name: value for name, value in self.settings.items() if name not in ("map", "cam")} | told
        title = f"{cam.title}, mirrored" if self.mirror else cam.title
        return dataclasses.replace(self, localizer=cam, title=title, threshold=CAM_THRESHOLD, settings=settings)

    def mirrored(self) -> "Network":
        """The same network with the means of the maps of each image and its mirror image; scores are of the image."""
        title, settings = f"{self.title}, mirrored", self.settings | {"mirrored": True}
        return dataclasses.replace(self, title=title, mirror=True, settings=settings)

    def predictor(self, batch_size: int) -> Predictor:
        """It, compiled for batches of a size."""
        localizer = Mirrored(self.localizer) if self.mirror else self.localizer
        return Predictor(self.model, localizer, batch_size, self.probability == "sigmoid")

    def passes(self) -> int:
        """Passes of the network that an image takes for its feature maps, see `ChannelCAM`; 0 for most CAMs."""
        by = self.localizer
        cam = by.cam(self.model) if isinstance(by, ByCam) else getattr(by, "cam", None)
        once = cam.passes(_classifier(self.model).encoder.channels) if isinstance(cam, Fused) else 0
        return 2 * once if self.mirror else once

    def threshold_at(self, value: float | None) -> Threshold:
        """A threshold that is given, as a share of each map's maximum in [0, 1), or its own."""
        if value is None:
            return self.threshold
        if not (is_number(value) and 0 <= value < 1):
            raise InputError(f"threshold={value} must lie in [0, 1), as a share of each map's maximum")
        return Threshold(value, "given")

    def label_of(self, given: int | str | None) -> int:
        """The class of a map, by its number or its name; None stands for the predicted one."""
        if given is None:
            return PREDICTED
        if isinstance(given, str):
            names = [same_name(name or "") for name in self.class_names]
            if not given.strip() or same_name(given) not in names:
                known = listed([printable(name) for name in self.class_names if name]) or "without names"
                raise InputError(f"label={given!r:.100} is the name of no class of this network; they are {known}")
            return names.index(same_name(given))
        if not is_number(given) or int(given) != given or not 0 <= given < len(self.class_names):
            raise InputError(f"label={given} is no class of this network; they are 0 to {len(self.class_names) - 1}")
        return int(given)


def trained_network(path: pathlib.Path, cam: ByCam | None = None) -> Network:
    """The model of a checkpoint, see `load_trained`: F-CAM or the classifier, with its own maps or those of a CAM.

    Raises:
      InputError: the checkpoint cannot be used, or the CAM is not known.
    """
    trained = load_trained(path)
    config, method, val = trained.config, trained.stage.method, trained.record["val"]
    title, threshold = "F-CAM", FCAM_THRESHOLD if isinstance(trained.model, FCAM) else CAM_THRESHOLD
    size = tested_side(config["data"])
    settings = {"size": size, "model": config["model"]}
    if isinstance(method, ClassifierMethod):
        title = config["cam"]["name"] if method.training.by_cam else method.training.title
        settings |= {"cam": config["cam"]}
    if tau := threshold_of(val):
        threshold = Threshold(tau, "validation")
    elif chose_none(val):
        text = "%s: validation chose no threshold above 0; maps are cut at the default, %g"
        logger.warning(text, path, threshold.value)
    window = tuple(setting(config, "data.folder.window") or ())
    settings |= {"map": title, **({"window": list(window)} if window else {})}
    network = Network(trained.model, method, title, size, threshold, trained.classes, settings, window=window)
    return network if cam is None or cam == ByCam(title) else network.by_cam(cam)


def imported_network(
    weights: pathlib.Path,
    encoder: str,
    cam: ByCam,
    *,
    num_classes: int | None = None,
    final_stride: int | None = None,
    size: int = 224,
    probability: str = "softmax",
) -> Network:
    """A classifier of a weight file, with a CAM.

    Args:
      weights: as for ``config.model.init``.
      num_classes: of its last layer; by default as many as the file has.
      final_stride: of the encoder: the one that it was trained with; by default as in `create_model`.
      probability: one of `PROBABILITIES`: what its scores were trained for.

    Raises:
      InputError: the file does not hold such a network, or the CAM is not known.
    """
    for name, value in (("num_classes", num_classes), ("size", size)):
        if value is not None and (not isinstance(value, int | np.integer) or value < 1):
            raise InputError(f"{name} is {value!r:.100}; it must be at least 1, and whole")
    if probability not in PROBABILITIES:
        raise unknown_name("probability", probability, PROBABILITIES)
    with advising(layer="train a classifier with it"):
        model, imported = create(encoder, weights, None, final_stride)
    assert imported is not None and isinstance(model.head, WGAP)
    classes, stride = model.head.fc.out_features, model.encoder.strides[-1]
    if num_classes not in (None, classes):
        raise InputError(
            f"weights {weights}: its classification layer has {classes} classes, num_classes is {num_classes}"
        )
    if imported.untouched:
        raise InputError(f"weights {weights}: they lack {', '.join(imported.untouched)}; train a classifier with them")
    settings = {"encoder": encoder, "num_classes": classes, "final_stride": stride, "size": size}
    settings |= {"probability": probability} if probability != "softmax" else {}
    names = names_of_weights(located(weights), classes)
    return Network(model, cam, cam.title, size, CAM_THRESHOLD, names, settings, probability).by_cam(cam)


def _classifier(model: Classifier | FCAM) -> Classifier:
    return model.classifier if isinstance(model, FCAM) else model
