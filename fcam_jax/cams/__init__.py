"""Class activation maps: the variants by name, and those of any classifier in one call.

Of `compute`, raw images go in, and score maps of their size come out.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.any_network import list_layers as list_layers
from fcam_jax.cams.attention import AttentionRollout, LeGrad
from fcam_jax.cams.ccam import CCAM
from fcam_jax.cams.channels import ISCAM, SSCAM, AblationCAM, ScoreCAM
from fcam_jax.cams.contract import ActivationMap, Network
from fcam_jax.cams.discovery import LOST, TokenCut
from fcam_jax.cams.eigencam import EigenCAM, EigenGradCAM, SegEigenCAM
from fcam_jax.cams.explainer import Explainer as Explainer
from fcam_jax.cams.factorization import Concepts as Concepts
from fcam_jax.cams.factorization import factorize as factorize
from fcam_jax.cams.fem import FEM
from fcam_jax.cams.finercam import FinerCAM
from fcam_jax.cams.fullgrad import FullGrad
from fcam_jax.cams.gradients import (
    CAM,
    ElementwiseGradCAM,
    GradCAM,
    GradCAMPP,
    HiResCAM,
    LayerCAM,
    SmoothGradCAMPP,
    XGradCAM,
)
from fcam_jax.cams.kpcacam import KPCACAM
from fcam_jax.cams.layouts import channels_first as channels_first
from fcam_jax.cams.layouts import tokens as tokens
from fcam_jax.cams.layouts import visible as visible
from fcam_jax.cams.randomcam import RandomCAM
from fcam_jax.cams.running import How, maps_of, runner
from fcam_jax.cams.sem import SEM
from fcam_jax.cams.shapleycam import ReST as ReST
from fcam_jax.cams.shapleycam import ShapleyCAM
from fcam_jax.cams.spatial_targets import Detection as Detection
from fcam_jax.cams.spatial_targets import Segmentation as Segmentation
from fcam_jax.cams.targets import Binary as Binary
from fcam_jax.cams.targets import Classes as Classes
from fcam_jax.cams.targets import ClassScore as ClassScore
from fcam_jax.cams.targets import Custom as Custom
from fcam_jax.cams.targets import MultiLabel as MultiLabel
from fcam_jax.cams.targets import Probability as Probability
from fcam_jax.cams.targets import Regression as Regression
from fcam_jax.cams.targets import Similarity as Similarity
from fcam_jax.cams.targets import Wanted as Wanted
from fcam_jax.component import Registry, defaults_of
from fcam_jax.data.arrays import array_of
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.models.classifier import check_images
from fcam_jax.models.fcam import FCAM

Maps = Float[Array, "*b y x"]

CAMS: Registry[type[ActivationMap]] = Registry(
    "CAM",
    {
        "cam": CAM,
        "ccam": CCAM,
        "gradcam": GradCAM,
        "gradcampp": GradCAMPP,
        "smooth_gradcampp": SmoothGradCAMPP,
        "xgradcam": XGradCAM,
        "layercam": LayerCAM,
        "hirescam": HiResCAM,
        "elementwise": ElementwiseGradCAM,
        "shapleycam": ShapleyCAM,
        "finercam": FinerCAM,
        "sem": SEM,
        "scorecam": ScoreCAM,
        "sscam": SSCAM,
        "iscam": ISCAM,
        "ablationcam": AblationCAM,
        "eigencam": EigenCAM,
        "eigengradcam": EigenGradCAM,
        "segeigencam": SegEigenCAM,
        "kpcacam": KPCACAM,
        "fem": FEM,
        "randomcam": RandomCAM,
        "fullgrad": FullGrad,
        "rollout": AttentionRollout,
        "legrad": LeGrad,
        "tokencut": TokenCut,
        "lost": LOST,
    },
)


def with_settings(name: str, settings: Mapping[str, Any]) -> ActivationMap:
    """A CAM by its name, with those of its settings that differ from the defaults, or all.

    Raises:
      InputError: there is no such CAM or setting, or a setting is outside its range.
    """
    there = defaults_of(CAMS[name])
    if unknown := sorted(settings.keys() - there):
        raise unknown_name(f"setting of the CAM {name!r}:", unknown[0], there or ["none"])
    return CAMS[name](**settings)


def compute(
    cam: str | ActivationMap,
    model: Any,
    images: Any,
    labels: Any = None,
    *,
    stages: Sequence[str] = (),
    convention: str = "protocol",
    keys: Key[Array, " b"] | None = None,
    **settings: Any,
) -> Maps | tuple[Maps, Int[Array, "*b"]]:
    """Score maps of a batch of images by a CAM.

    A model that is an NNX module or another pytree is compiled with its arrays as arguments: once for each CAM, its
    settings, and shape of images; any other model runs operation by operation. It may be called in a function that is
    jitted or differentiated.

    Args:
      cam: its name (`cams.CAMS`), or the CAM with its settings, such as `cams.GradCAM()`.
      model: a `Classifier`, an `FCAM` (its classifier is explained), or any other `Network`.
      images: RGB in [0, 255], [b, h, w, 3], of any dtype; a list of images of one size; or one image, [h, w, 3].
      labels: class of each image, or of the one; the predicted one where there are none.
      stages: names of the stages, "stage1" for the highest resolution and so on; none for the top one, or the
        network's `cam_stage`.
      convention: how maps are brought to the images' size, see `score_maps`.
      keys: a key for every image, for the CAMs that draw; by default of the image's place in the batch.
      **settings: of a CAM that is given by its name, where they differ from its defaults.

    Returns:
      Maps in [0, 1]; where no labels were given, maps and predicted labels. Without a batch axis for one image.

    Raises:
      InputError: a name, setting, shape, range or label that does not exist or fit.
    """
    network = model.classifier if isinstance(model, FCAM) else model
    if not isinstance(network, Network):
        raise InputError(f"{type(model).__name__} is no classifier for CAMs: it needs normalize, stages and score")
    if isinstance(cam, str):
        cam = with_settings(cam, settings)
    elif not isinstance(cam, ActivationMap):
        raise InputError(f"cam is {cam!r:.100}; it must be the name of a CAM, or one with its settings")
    elif settings:
        raise InputError(f"{', '.join(settings)}: give the settings to the CAM itself, {type(cam).__name__}(...)")
    cam.check(network)
    images = array_of(images, "images")
    if single := images.ndim == 3:
        images, labels = images[None], None if labels is None else jnp.atleast_1d(jnp.asarray(labels))
    check_images(images)
    images = jnp.asarray(images)
    given = None if labels is None else _checked(jnp.asarray(array_of(labels, "labels")), len(images))
    if keys is None:
        keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(len(images)))
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((network, images, given, keys)))
    names = (stages,) if isinstance(stages, str) else tuple(stages)
    how = How(cam, names, (images.shape[1], images.shape[2]), convention)
    try:
        maps, logits, _ = maps_of(runner(network), how, network, images, given, keys, groups=not traced)
    except InputError as error:
        raise InputError(str(error)) from None  # without the lines that JAX adds to what fails while it traces
    if given is not None:
        ClassScore(given).check(logits)
    maps, predicted = (values[0] if single else values for values in (maps, logits.argmax(axis=-1)))
    return (maps, predicted) if given is None else maps


def _checked(labels: Array, count: int) -> Int[Array, " b"]:
    if labels.shape != (count,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"labels are {labels.dtype} of the shape {labels.shape}; they must be {count} integers")
    return labels
