"""CSTN: windows that move, turn and stretch over a map, each of which scores every class; their boxes are the map."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam, Target
from fcam_jax.cams.score_maps import minmax
from fcam_jax.component import at_least
from fcam_jax.errors import InputError
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import ByCam, ClassifierTraining, Outcome
from fcam_jax.methods.contract import image_keys
from fcam_jax.models.batch_norm import BatchNorm
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder, Map
from fcam_jax.models.heads import Head
from fcam_jax.models.layers import conv
from fcam_jax.types import DATA_AXIS, Batch, Localization

Affine = Float[Array, "b n 2 3"]  # of each window, row by row
Boxes = Float[Array, "b n 4"]  # left, top, right, bottom in shares of the image

_STAY = np.eye(2, 3, dtype=np.float32)


class CSTNHead(Head):
    """A spatial transformer at every place of a map where its window fits, and the classes of what each sees.

    Of the stage below the top one: ReLU, 3x3 convolution to `width` channels and BatchNorm make the map; a convolution
    as large as the window, ReLU, and another one move every window; a layer of `width` units and ReLU reads it.

    Reference: Meethal et al., Convolutional STN for weakly supervised object localization, ICPR 2020, section 3.
    """

    reads = (-2,)

    def __init__(self, features: int, num_classes: int, *, window: int, width: int, **of_layers: Any):
        self.window = window
        dtype, rngs = of_layers["dtype"], of_layers["rngs"]
        self.entered = conv(features, width, 3, bias=True, **of_layers)
        self.norm = BatchNorm(width, dtype=dtype, rngs=rngs)
        self.looked = conv(width, width, window, bias=True, **of_layers)
        zeros = jax.nn.initializers.zeros
        self.moved = conv(width, 6, window, padding=0, init=zeros, dtype=jnp.float32, rngs=rngs)
        self.hidden = nnx.Linear(width * window**2, width, **of_layers)
        self.top = nnx.Linear(width, num_classes, dtype=jnp.float32, rngs=rngs)

    def windows(self, features: Map, *, train: bool) -> tuple[Float[Array, "b n k"], Affine, tuple[int, int]]:
        """Every window's scores of the classes and its transformation, and the cells of the map.

        Raises:
          InputError: the map is smaller than a window.
        """
        cells = features.shape[1], features.shape[2]
        if min(cells) < self.window:
            raise InputError(
                f"classifier.cstn.window is {self.window}, and the map has {cells[0]}x{cells[1]} cells; lower it, or "
                "take larger images or a lower model.final_stride"
            )
        x = self.norm(self.entered(nnx.relu(features)), train=train)
        moved = self.moved(nnx.relu(self.looked(x)))
        affine = moved.reshape(len(x), -1, 2, 3) + _STAY
        seen = sampled(x, window_places(affine, cells, self.window))
        hidden = nnx.relu(self.hidden(seen.reshape(*seen.shape[:2], -1)))
        return self.top(hidden), affine, cells

    def __call__(self, features: Map) -> Float[Array, "b k"]:
        """Class scores before softmax: of each class over all windows, float32."""
        return jax.nn.logsumexp(self.windows(features, train=False)[0], axis=1)

    def votes(
        self, features: Map, labels: Int[Array, " b"], rows: ArrayLike, columns: ArrayLike
    ) -> Float[Array, "b _ _"]:
        """What share of the label's score lies in windows whose boxes hold a place; of rows and columns of an image."""
        scores, affine, cells = self.windows(features, train=False)
        shares = jax.nn.softmax(jnp.take_along_axis(scores, labels[:, None, None], axis=-1)[..., 0])
        return voted(shares, boxes_of(affine, cells, self.window), jnp.asarray(rows), jnp.asarray(columns))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CSTN(ClassifierTraining):
    """Cross-entropy of classes over all windows, and how far these leave their places.

    $$ P(c) = \\frac{\\sum_w \\exp s_{cw}}{\\sum_{c' w} \\exp s_{c'w}}, \\quad
       L = -\\log P(y) + \\lambda \\sum_w |\\theta_w - I|^2 $$

    The first term is a mean over the global batch, the second a sum, with `train.accumulate` over a part of it. The map
    is a vote: of every window's box, by the window's share in the label's score.

    Attributes:
      window: side of the windows in cells, odd.
      width: channels.
      stay_weight: of the second term (lambda), 1e-3 on ILSVRC.

    Raises:
      InputError: a setting is outside its range; the map is smaller than a window.

    Differs from: the released program, whose multi-scale variant is left out. It spares the windows' layers weight
      decay, does not train the stem and the first stage, has no fourth stage, which does not learn here, and shows the
      box of the best window of the predicted class.

    Reference: Meethal et al., ICPR 2020, section 3; released program, single scale.
    """

    title = "CSTN"
    by_cam = False
    window: int = 13
    width: int = 1024
    stay_weight: float = 1e-4

    def __post_init__(self) -> None:
        at_least(self, window=3, width=1, stay_weight=0)
        if self.window % 2 == 0:
            raise InputError(f"window is {self.window}; it must be odd")

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> CSTNHead:
        channels = encoder.channels[CSTNHead.reads[0]]
        return CSTNHead(channels, num_classes, window=self.window, width=self.width, **of_layers)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; class scores; its terms "ce" and "moved"."""
        assert isinstance(model.head, CSTNHead)
        stages, _ = model(jnp.asarray(batch.images), train=True, rng=image_keys(rng, batch))
        scores, affine, _ = model.head.windows(*model.read(stages), train=True)
        logits = jax.nn.logsumexp(scores, axis=1)
        ce = jax.lax.pmean(cross_entropy(logits, jnp.asarray(batch.labels)).mean(), DATA_AXIS)
        moved = jax.lax.psum(jnp.square(affine - _STAY).sum(), DATA_AXIS)
        return ce + self.stay_weight * moved, logits, {"ce": ce, "moved": moved}

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """The vote for the label at the centres of pixels, scaled to [0, 1], and class scores."""
        assert isinstance(model.head, CSTNHead)
        stages, logits = model(jnp.asarray(batch.images), train=False)
        rows, columns = ((jnp.arange(side) + 0.5) / side for side in batch.images.shape[1:3])
        (features,) = model.read(stages)
        return Localization(minmax(model.head.votes(features, jnp.asarray(batch.labels), rows, columns)), logits)

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b _ _"]:
        network, there = target.network, target.at(cam.finest)
        assert isinstance(network, Classifier) and isinstance(network.head, CSTNHead) and there.grid is not None
        rows, columns = there.grid.centers((there.map.shape[1], there.map.shape[2]))
        (features,) = network.read(target.stages)
        return network.head.votes(features, target.labels, rows, columns)


def window_places(affine: Affine, cells: tuple[int, int], window: int) -> Float[Array, "b n m 2"]:
    """Where the m cells of each window lie in a map, across and down, in its cells; row by row.

    $$ x = r + w_x + r (\\theta_{11} X + \\theta_{12} Y + \\theta_{13}), \\quad
       y = r + w_y + r (\\theta_{21} X + \\theta_{22} Y + \\theta_{23}) $$

    With X and Y from -1 to 1, w the first cell of the window where it stays, and r half of its side, rounded down.
    """
    radius, inside = window // 2, jnp.linspace(-1, 1, window)
    y, x = jnp.meshgrid(inside, inside, indexing="ij")
    within = jnp.stack([x, y, jnp.ones_like(x)], axis=-1).reshape(-1, 3)
    down, across = jnp.meshgrid(*(jnp.arange(side - window + 1) for side in cells), indexing="ij")
    first = jnp.stack([across, down], axis=-1).reshape(-1, 1, 2)
    exact = jax.lax.Precision.HIGHEST
    return radius + first + radius * jnp.einsum("bnij,mj->bnmi", affine, within, precision=exact)


def sampled(x: Float[Array, "b h w c"], places: Float[Array, "b n m 2"]) -> Float[Array, "b n m c"]:
    """A map at places between its cells, bilinearly, with zeros around it."""
    height, width = x.shape[1:3]
    flat, (b, n, m, _) = x.reshape(len(x), height * width, -1), places.shape
    first = jnp.floor(places)
    # By the part beyond the first cell; the distance has no gradient at a cell, and that is where windows start.
    beyond = places - first
    total: Any = 0
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        corner = first + jnp.asarray(step)
        weight = jnp.where(jnp.asarray(step, bool), beyond, 1 - beyond).prod(axis=-1)
        column, row = corner[..., 0], corner[..., 1]
        there = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = jnp.where(there, row * width + column, 0).astype(jnp.int32).reshape(b, n * m, 1)
        values = jnp.take_along_axis(flat, index, axis=1).reshape(b, n, m, -1)
        total = total + values * jnp.where(there, weight, 0)[..., None].astype(x.dtype)
    return total


def boxes_of(affine: Affine, cells: tuple[int, int], window: int) -> Boxes:
    """The box around each window, within the image, whose edges the centres of the map's outer cells are."""
    height, width = cells
    places = window_places(affine, cells, window) / jnp.array([max(width - 1, 1), max(height - 1, 1)])
    return jnp.clip(jnp.concatenate([places.min(axis=2), places.max(axis=2)], axis=-1), 0, 1)


def voted(
    shares: Float[Array, "b n"], boxes: Boxes, rows: Float[Array, " h"], columns: Float[Array, " w"]
) -> Float[Array, "b h w"]:
    """The sum of the shares of those boxes that hold a place."""
    left, top, right, bottom = (edge[..., None] for edge in jnp.moveaxis(boxes, -1, 0))
    down = ((rows >= top) & (rows <= bottom)).astype(jnp.float32)
    across = ((columns >= left) & (columns <= right)).astype(jnp.float32)
    return jnp.einsum("bn,bnh,bnw->bhw", shares, down, across, precision=jax.lax.Precision.HIGHEST)
