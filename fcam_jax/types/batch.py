"""What goes to the device, and what comes back."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Num, UInt8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Features:
    """What a frozen classifier makes of some images.

    Attributes:
      maps: of the stages that the decoder takes, by their positions; without that which is the image itself.
      scores: of the classes, before softmax.
      cams: of the labels, at low resolution and as they are.
    """

    maps: Mapping[int, Float[Array | np.ndarray, "b _ _ _"]]
    scores: Float[Array | np.ndarray, "b k"]
    cams: Float[Array | np.ndarray, "b _ _"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """The part of a batch that goes to the device.

    Attributes:
      images: RGB in [0, 255], not normalised: the encoder's normalisation and the CRF both start from it; whole
        numbers, but for an exported program that takes normalised images.
      labels: class of each image, from 0.
      index: position of each image in its split; makes per-image randomness independent of the batch.
      valid: 1 for an image, 0 for the padding of a last batch.
      cams: CAMs of the labels, of the whole images that these are crops of, at low resolution and in [0, 1]; None where
        the model's own are meant.
      crop: where each image lies in its whole image: top, left and side as shares of the whole one's side, and 1 where
        it is mirrored left to right; None without `cams`.
      features: of the images, where they were computed before; None where the model computes them.
      raw: the images before augmentation, which the CRF sees; None where they are `images`.
      objects: where the object is (`OBJECT`) and where that is not known (`UNDECIDED`), for training by ground truth of
        places; None where there is none of that.
      part: the number of this part of a batch that a step takes in parts; None for a whole batch.
    """

    images: Num[Array | np.ndarray, "b h w 3"]
    labels: Int[Array | np.ndarray, " b"]
    index: Int[Array | np.ndarray, " b"]
    valid: Float[Array | np.ndarray, " b"]
    cams: Float[Array | np.ndarray, "b _ _"] | None = None
    crop: Float[Array | np.ndarray, "b 4"] | None = None
    features: Features | None = None
    raw: UInt8[Array, "b h w 3"] | None = None
    objects: UInt8[Array | np.ndarray, "b h w"] | None = None
    part: Int[Array, ""] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Localization:
    """What a method says about a batch of images."""

    maps: Float[Array | np.ndarray, "b h w"]  # of the given labels at the images' size, in [0, 1]
    logits: Num[Array | np.ndarray, "b k"] | None  # class scores before softmax; None where there is no classifier
    # Figures of each map, in [0, 1], by their names: what a `DeviceMeasure` has found.
    measures: Mapping[str, Float[Array | np.ndarray, " b"]] = dataclasses.field(default_factory=dict)
