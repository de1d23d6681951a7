"""Class activation maps: the variants by name, and those of any classifier in one call.

Of `compute`, raw images go in, and score maps of their size come out.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.attention import AttentionRollout, LeGrad
from fcam_jax.cams.channels import ISCAM, SSCAM, AblationCAM, ChannelCAM, ScoreCAM, joined
from fcam_jax.cams.contract import ActivationMap, Network, Target, default_stage
from fcam_jax.cams.eigencam import EigenCAM, EigenGradCAM, SegEigenCAM
from fcam_jax.cams.factorization import Concepts as Concepts
from fcam_jax.cams.factorization import factorize as factorize
from fcam_jax.cams.fem import FEM
from fcam_jax.cams.finercam import FinerCAM
from fcam_jax.cams.fullgrad import FullGrad
from fcam_jax.cams.fusion import Fused, fuse, fused
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
from fcam_jax.cams.randomcam import RandomCAM
from fcam_jax.cams.score_maps import score_map
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
from fcam_jax.models.encoder import Grid
from fcam_jax.models.fcam import FCAM
from fcam_jax.runtime.progress import progress_bar

Maps = Float[Array, "*b y x"]

CAMS: Registry[type[ActivationMap]] = Registry(
    "CAM",
    {
        "cam": CAM,
        "gradcam": GradCAM,
        "gradcampp": GradCAMPP,
        "smooth_gradcampp": SmoothGradCAMPP,
        "xgradcam": XGradCAM,
        "layercam": LayerCAM,
        "hirescam": HiResCAM,
        "elementwise": ElementwiseGradCAM,
        "shapleycam": ShapleyCAM,
        "finercam": FinerCAM,
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
    is_tree = not jax.tree_util.treedef_is_leaf(jax.tree.structure(network))
    run = _compiled if is_tree else functools.partial
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((network, images, given, keys)))
    how = (stages,) if isinstance(stages, str) else tuple(stages), (images.shape[1], images.shape[2]), convention
    try:
        if isinstance(cam, ChannelCAM) and not traced:
            maps, logits = _in_groups(run, cam, *how, network, images, given, keys)
        else:
            maps, logits = run(_at_once, cam, *how)(network, images, given, keys)
    except InputError as error:
        raise InputError(str(error)) from None  # without the lines that JAX adds to what fails while it traces
    if given is not None:
        _check_range(given, logits.shape[1])
    maps, predicted = (values[0] if single else values for values in (maps, logits.argmax(axis=-1)))
    return (maps, predicted) if given is None else maps


@functools.cache
def _compiled(function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    """The compiled function; the same object for the same settings, so that nothing is compiled twice."""
    return jax.jit(functools.partial(function, *static))


def _at_once(
    cam: ActivationMap, stages: tuple[str, ...], size: tuple[int, int], convention: str, *given: Any
) -> tuple[Maps, Float[Array, "b k"]]:
    """Maps and class scores from a network, images, labels (None: the predicted ones) and keys."""
    target, logits = _target(*given)
    chosen = _fused(cam, stages, target)
    return score_map(chosen(target), size, convention, target.at(chosen.finest).grid), logits


def _in_groups(
    run: Callable[..., Any],
    cam: ChannelCAM,
    stages: tuple[str, ...],
    size: tuple[int, int],
    convention: str,
    network: Network,
    *given: Any,
) -> tuple[Maps, Float[Array, "b k"]]:
    """The same, a group of feature maps at a time, counted by a bar; `run` compiles a function with its settings."""
    seen, logits = run(_target)(network, *given)
    whole = dataclasses.replace(seen, network=network)  # not a copy of it
    targets = [whole.at(stage) for stage in _fused(cam, stages, whole).stages]
    scores, combined = run(type(cam).scores, cam), run(type(cam).combined, cam)
    found, total = [], sum(target.map.shape[-1] for target in targets)
    with progress_bar(f"{cam.title} of {len(whole.keys)} image(s)", total, "feature map") as bar:
        for target in targets:
            groups = []
            for channels in cam.groups(target):
                groups.append(jax.block_until_ready(scores(target, channels)))
                bar.update(len(channels))
            found.append(combined(target, joined(jnp.stack(groups))))
    return run(_sized, size, convention, tuple(target.grid for target in targets))(found), logits


def _target(network: Network, images: Array, labels: Array | None, keys: Array) -> tuple[Target, Float[Array, "b k"]]:
    inputs = network.normalize(images)
    maps = network.stages(inputs)
    logits = network.score(maps[-1], len(maps) - 1)
    labels = logits.argmax(axis=-1) if labels is None else labels
    return Target(network, inputs, maps, labels, keys, len(maps) - 1), logits


def _fused(cam: ActivationMap, stages: tuple[str, ...], target: Target) -> Fused:
    return fused(cam, stages, len(target.stages), default_stage(target.network))


def _sized(size: tuple[int, int], convention: str, grids: tuple[Grid | None, ...], found: list[Array]) -> Array:
    return score_map(fuse(found, grids), size, convention, grids[0])


def _checked(labels: Array, count: int) -> Int[Array, " b"]:
    if labels.shape != (count,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"labels are {labels.dtype} of the shape {labels.shape}; they must be {count} integers")
    return labels


def _check_range(labels: Int[Array, " b"], classes: int) -> None:
    if isinstance(labels, jax.core.Tracer):
        return  # their values are not known while a function is traced
    wrong = np.asarray(labels)[(np.asarray(labels) < 0) | (np.asarray(labels) >= classes)]
    if wrong.size:
        raise InputError(f"label {wrong[0]} is outside of the network's {classes} classes, 0 to {classes - 1}")
