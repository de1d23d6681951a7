"""PSOL: a network that tells the box of the object, learnt from boxes that other maps have given; no classes."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from fcam_jax.component import at_least
from fcam_jax.data.found_boxes import FoundBoxes
from fcam_jax.data.source import Retold, Source
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ByCam, ClassAgnostic, Outcome
from fcam_jax.methods.contract import image_keys
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.heads import INIT, Head
from fcam_jax.types import DATA_AXIS, OBJECT, Batch, Localization

Boxes = Float[Array, "b 4"]  # x, y, width and height, in shares of the image's sides


class BoxHead(Head):
    """The box of the object, from the mean of the features: two linear layers with a ReLU between, and a sigmoid.

    $$ (x, y, w, h) = \\sigma(W_2\\, \\mathrm{ReLU}(W_1 \\bar A + b_1) + b_2) $$

    There is one class, "object", of the score 0.
    """

    def __init__(self, features: int, *, width: int, **of_layers: Any):
        self.hidden = nnx.Linear(features, width, kernel_init=INIT, **of_layers)
        self.fc = nnx.Linear(width, 4, kernel_init=INIT, **of_layers | {"dtype": jnp.float32})

    def boxes(self, features: Float[Array, "b h w c"]) -> Boxes:
        """The box of each image, float32."""
        pooled = features.mean(axis=(1, 2), dtype=jnp.float32)
        return jax.nn.sigmoid(self.fc(nnx.relu(self.hidden(pooled))))

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        return jnp.zeros((len(features), 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PSOL(ClassAgnostic):
    """Training of a box by the boxes of other maps, those of F-CAM for one; it localizes by its own.

    $$ L = \\frac{1}{4N} \\sum_X |(x, y, w, h) - (x, y, w, h)^*|^2 $$

    N are the images of the batch whose crop shows some of the box.

    Attributes:
      boxes: file with a box of every training image, such as `predictions.jsonl` of what `fcam predict` writes.
      width: of the hidden layer.

    Differs from: the authors' program, whose boxes are those of DDT, a principal component of the features of a class.

    Reference: Zhang, Cao and Wu, Rethinking the route towards weakly supervised object localization, CVPR 2020,
      section 3; released program.
    """

    title = "PSOL"
    boxes: str = ""
    width: int = 512

    def __post_init__(self) -> None:
        at_least(self, width=1)

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> BoxHead:
        return BoxHead(encoder.channels[-1], width=self.width, **of_layers)

    def training_records(self, sources: Mapping[str, Source], seed: int) -> Source:
        """The training images with the boxes of the file.

        Raises:
          InputError: there is no such file, or it cannot be used.
        """
        if not self.boxes:
            what = "boxes is empty; give the boxes of the training images, predictions.jsonl of `fcam predict`"
            raise InputError(f"classifier.psol.{what}")
        found = FoundBoxes.read(pathlib.Path(self.boxes))
        return Retold(sources["train"], found.told, "boxes", self.boxes)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; no class scores; boxes with an IoU of at least 1/2 in percent."""
        assert batch.objects is not None
        wanted, counted = boxes_of(jnp.asarray(batch.objects))
        found = self._boxes(model, batch, train=True, rng=image_keys(rng, batch))
        errors, right = jnp.square(found - wanted).mean(axis=-1), overlap(found, wanted) >= 0.5
        sums = counted.sum(), jnp.where(counted, errors, 0).sum(), (counted & right).sum()
        count, loss, correct = jax.lax.psum(sums, DATA_AXIS)
        count = jnp.maximum(count, 1)
        return loss / count, None, {"accuracy": 100.0 * correct / count}

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """1 within the box and 0 elsewhere, which every threshold cuts alike; no class scores."""
        size = batch.images.shape[1], batch.images.shape[2]
        return Localization(map_of_boxes(self._boxes(model, batch, train=False), size), None)

    def _boxes(self, model: Classifier, batch: Batch, **how: Any) -> Boxes:
        assert isinstance(model.head, BoxHead)
        stages, _ = model(jnp.asarray(batch.images), **how)
        return model.head.boxes(*model.read(stages))


def boxes_of(objects: UInt8[Array, "b h w"]) -> tuple[Boxes, Bool[Array, " b"]]:
    """The box around each object, and whether there is any; see `Batch.objects`."""
    inside = objects == OBJECT
    starts, extents = [], []
    for along in (inside.any(axis=1), inside.any(axis=2)):  # of the columns, of the rows
        first, behind = along.argmax(axis=1), along[:, ::-1].argmax(axis=1)
        starts.append(first / along.shape[1])
        extents.append((along.shape[1] - behind - first) / along.shape[1])
    return jnp.stack([*starts, *extents], axis=-1), inside.any(axis=(1, 2))


def map_of_boxes(boxes: Boxes, size: tuple[int, int]) -> Float[Array, "b h w"]:
    """1 where the centre of a pixel lies in the box, else 0; of images of a height and width."""
    within = []
    for start, extent, side in zip(boxes[:, :2].T, boxes[:, 2:].T, size[::-1], strict=True):
        centres = (jnp.arange(side) + 0.5) / side
        within.append((centres >= start[:, None]) & (centres < (start + extent)[:, None]))
    columns, rows = within
    return (rows[:, :, None] & columns[:, None, :]).astype(jnp.float32)


def overlap(a: Boxes, b: Boxes) -> Float[Array, " b"]:
    """Intersection over union of two boxes of each image."""
    sides = jnp.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - jnp.maximum(a[:, :2], b[:, :2])
    common = jnp.maximum(sides, 0).prod(axis=-1)
    return common / jnp.maximum(a[:, 2:].prod(axis=-1) + b[:, 2:].prod(axis=-1) - common, 1e-9)
