"""SPOL, second part: a map of whatever is an object, learnt from pseudo masks that score maps of the images give."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from fcam_jax.component import shares
from fcam_jax.data.arrays import read_map
from fcam_jax.data.source import Record, Retold, Source
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ByCam, ClassAgnostic, Outcome, enlarged
from fcam_jax.methods.contract import image_keys
from fcam_jax.methods.few_shot import pixel_cross_entropy
from fcam_jax.methods.spol import FusionHead, fusion_head
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder
from fcam_jax.runtime.random import named
from fcam_jax.seeds.gaussians import pseudo_mask
from fcam_jax.types import DATA_AXIS, UNDECIDED, Batch, Localization

_SIDE = 256  # of the maps that pseudo masks are made of
_EPSILON = 1e-6  # added to a map's maximum


@dataclasses.dataclass(frozen=True, kw_only=True)
class SPOLSegmenter(ClassAgnostic):
    """Training of a class-agnostic map by pseudo masks, on a network of its own; the map localizes.

    $$ L = -\\frac1N \\sum_{p\\ \\text{decided}} t_p \\log \\sigma(l_p) + (1 - t_p) \\log (1 - \\sigma(l_p)) $$

    With l the map of `spol.FusionHead` before the sigmoid, t and what is decided of `seeds.gaussians.pseudo_mask`, and
    N all pixels of the batch. The score maps that these are made of, as those of `fcam predict` by a classifier that
    `spol` has trained, may be any other's.

    Attributes:
      maps: folder of a score map <image_id>.npy for every training image, such as `maps` of what `fcam predict` writes.
      foreground: the object is where a map, over its maximum, or a Gaussian on its ring is above it.
      background: it is not where the map is below this; in between it is undecided.

    Differs from: the released program, which enlarges the logit with the corners' centres kept, and takes the maps of
      the true class; those of `fcam predict` are of the predicted one, unless it is given a label.

    Reference: Wei et al., Shallow feature matters, CVPR 2021, sections 3.3 and 3.4; released program.
    """

    title = "SPOL"
    maps: str = ""
    foreground: float = 0.25
    background: float = 0.01

    def __post_init__(self) -> None:
        shares(self, "foreground", "background")

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> FusionHead:
        return fusion_head(encoder, 1, rectified=False, **of_layers)

    def training_records(self, sources: Mapping[str, Source], seed: int) -> Source:
        """The training images with pseudo masks, which are made while they are read.

        Raises:
          InputError: no folder of maps is given, or it is not there.
        """
        folder = pathlib.Path(self.maps)
        if not self.maps or not folder.is_dir():
            what = f"maps is {self.maps!r}; give the folder of score maps of the training images, as `fcam predict`"
            raise InputError(f"classifier.spol_segmenter.{what} writes it by a classifier of classifier.method=spol")
        origin = f"{folder} by {self.foreground}, {self.background}"
        return Retold(sources["train"], functools.partial(self.told, folder), "mask", origin)

    def told(self, folder: pathlib.Path, record: Record) -> Record:
        """The record with a pseudo mask. Raises InputError: its map is not there, or cannot be used."""
        path = folder / f"{record.image_id}.npy"
        given = read_map(path)
        of_numbers = given.dtype.kind in "biuf" and given.ndim == 2 and given.size
        if not (of_numbers and np.isfinite(given).all() and given.min() >= 0):
            raise InputError(f"{path} must hold a map (height, width) of numbers of at least 0")
        given = given.astype(np.float32)
        scaled = cv2.resize(given / (given.max() + _EPSILON), (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
        mask, undecided = pseudo_mask(scaled, self.foreground, self.background)
        return dataclasses.replace(record, boxes=None, mask=mask, ignore=undecided)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; no class scores; shares of decided pixels, and of these told right, in
        percent.
        """
        assert batch.objects is not None and isinstance(model.head, FusionHead)
        stages, _ = model(jnp.asarray(batch.images), train=True, rng=image_keys(rng, batch))
        _, product = model.head.fused(model.read(stages), train=True)
        maps = model.head.dropped(product, image_keys(named(rng, "spol.product"), batch))[..., 0]
        objects = jnp.asarray(batch.objects)
        of_decided, figures = pixel_cross_entropy(enlarged(model, maps, batch, FusionHead.reads[0]), objects)
        decided = jax.lax.pmean((objects != UNDECIDED).mean(), DATA_AXIS)
        return of_decided * decided, None, {**figures, "decided": 100.0 * decided}

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """The probability that a pixel is of the object, in [0, 1], not normalised again; no class scores."""
        assert isinstance(model.head, FusionHead)
        stages, _ = model(jnp.asarray(batch.images), train=False)
        maps = model.head.of_labels(model.read(stages), jnp.zeros_like(jnp.asarray(batch.labels)))
        return Localization(jax.nn.sigmoid(enlarged(model, maps, batch, FusionHead.reads[0])), None)
