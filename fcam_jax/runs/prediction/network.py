"""A network that predicts, with all that is known of it: out of a run, or out of a file of weights."""

import dataclasses
import logging
import pathlib
from typing import Any

import numpy as np

from fcam_jax.component import is_number
from fcam_jax.configuration.flat import setting
from fcam_jax.data.classes import same_name
from fcam_jax.data.images import Window
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.evaluation.box_accuracy import chose_none, threshold_of
from fcam_jax.methods.classifier import ClassifierMethod
from fcam_jax.methods.contract import Localizer
from fcam_jax.models.create import create
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import advising
from fcam_jax.runs.class_names import ClassNames, names_of_run
from fcam_jax.runs.prediction.predictor import PREDICTED, PROBABILITIES, ByCam, Predictor
from fcam_jax.runs.prediction.restored import Threshold
from fcam_jax.runs.trained import load_trained
from fcam_jax.runtime.text import listed, printable

logger = logging.getLogger(__name__)

# Where validation chose no threshold: F-CAM's own decision, foreground where it is likelier than background; and for
# CAMs what boxes of birds are best at with ImageNet's networks (0.3 to 0.5 hardly differ).
FCAM_THRESHOLD = Threshold(0.5, "own decision", of_maximum=False)
CAM_THRESHOLD = Threshold(0.4, "default")


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

    def by_cam(self, cam: ByCam) -> "Network":
        """The same network with maps by a CAM, for which no threshold was validated.

        Raises:
          InputError: the CAM is not known, or the network cannot be explained by it.
        """
        cam.check(self.model)
        told = {"map": cam.name, "stages": list(cam.stages), "cam_settings": dict(cam.settings)}
        kept = {name: value for name, value in self.settings.items() if name not in ("map", "cam")}
        settings = kept | told
        return dataclasses.replace(self, localizer=cam, title=cam.title, threshold=CAM_THRESHOLD, settings=settings)

    def predictor(self, batch_size: int) -> Predictor:
        """It, compiled for batches of a size."""
        return Predictor(self.model, self.localizer, batch_size, self.probability)

    def threshold_at(self, value: float | None) -> Threshold:
        """A threshold that is given, as a share of each map's maximum, or its own.

        Raises:
          InputError: it is outside of [0, 1).
        """
        if value is None:
            return self.threshold
        if not (is_number(value) and 0 <= value < 1):
            raise InputError(f"threshold={value} must lie in [0, 1), as a share of each map's maximum")
        return Threshold(value, "given")

    def label_of(self, given: int | str | None) -> int:
        """The class of a map, by its number or its name; None stands for the predicted one.

        Raises:
          InputError: there is no such class.
        """
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
    """The model of a checkpoint: F-CAM, or the classifier with its own CAM or another one.

    Args:
      path: folder of a run, of a stage, or of a checkpoint, as for `load_trained`.
      cam: instead of the model's own maps.

    Raises:
      InputError: the checkpoint cannot be used, or the CAM is not known.
    """
    trained = load_trained(path)
    config, is_fcam = trained.config, trained.stage.name == "fcam"
    data = config["data"]
    title = "F-CAM"
    if isinstance(trained.stage.method, ClassifierMethod):
        way = trained.stage.method.training
        title = config["cam"]["name"] if way.by_cam else way.title
    threshold = FCAM_THRESHOLD if is_fcam else CAM_THRESHOLD
    val = trained.record["val"]
    if tau := threshold_of(val):
        threshold = Threshold(tau, "validation")
    elif chose_none(val):
        text = "%s: validation chose no threshold above 0; maps are cut at the default, %g"
        logger.warning(text, path, threshold.value)
    settings = {"size": data["size"], "model": config["model"], "map": title}
    settings |= {} if is_fcam else {"cam": config["cam"]}
    window = tuple(setting(config, "data.folder.window") or ())
    settings |= {"window": list(window)} if window else {}
    network = Network(
        trained.model, trained.stage.method, title, data["size"], threshold, trained.classes, settings, window=window
    )
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
      weights: the file, or a folder as for ``config.model.init``.
      encoder: its name.
      cam: what its maps are.
      num_classes: of its last layer; by default as many as the file has.
      final_stride: of the encoder: the one that it was trained with; by default as in `create_model`.
      size: side of its images.
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
    names = names_of_run(weights if weights.is_dir() else weights.parent, classes)  # as an export leaves them
    own = Network(model, cam, cam.title, size, CAM_THRESHOLD, names, settings, probability)
    return own.by_cam(cam)
