"""Trainings on images that are changed: Hide-and-Seek hides parts of them, CutMix puts parts of others in."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from fcam_jax.component import above, at_least, shares
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import ClassifierTraining, Outcome, plain
from fcam_jax.methods.contract import batch_key, image_keys
from fcam_jax.models.classifier import Classifier
from fcam_jax.runtime.random import OfStep, stream
from fcam_jax.types import DATA_AXIS, Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class HaS(ClassifierTraining):
    """Mean cross-entropy of images with hidden cells. What is evaluated is never hidden.

    Attributes:
      grid: side of a cell in pixels.
      rate: probability that a cell is hidden.
    """

    title = "HaS"
    grid: int = 4
    rate: float = 0.5

    def __post_init__(self) -> None:
        at_least(self, grid=1)
        shares(self, "rate")

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """Loss over the global batch, and class scores of the images with their hidden cells."""
        mean = jnp.asarray(model.encoder.mean, jnp.float32)
        keys = image_keys(stream(rng, OfStep.HIDDEN), batch)
        images = hide(keys, jnp.asarray(batch.images), mean, grid=self.grid, rate=self.rate)
        return plain(model, batch, rng, images=images)


def hide(
    keys: Key[Array, " b"], images: Num[Array, "b h w c"], color: Float[Array, " c"], *, grid: int, rate: float
) -> Float[Array, "b h w c"]:
    """Every cell of an image is hidden with the same probability, by a colour.

    $$ x_p = \\mu \\text{ where } u_{cell(p)} < r, \\quad u \\sim U[0, 1) $$

    There is a key for every image. The colour mu, in the range of the images, is the mean that normalisation takes
    away, so that a hidden pixel is 0 after it, as in the released program. `grid` is the side of a cell in pixels, and
    `rate` the probability r, in [0, 1].

    Reference: Singh and Lee, Hide-and-Seek, ICCV 2017, section 3.1; cells and rate as in the program of Choe et al.,
      CVPR 2020.
    """
    height, width = images.shape[1:3]
    shape = -(-height // grid), -(-width // grid)
    hidden = jax.vmap(lambda key: jax.random.bernoulli(key, rate, shape))(keys)
    return jnp.where(pixels_of_cells(hidden, grid, height, width)[..., None], color, images.astype(jnp.float32))


def pixels_of_cells(
    cells: Bool[Array, "b _ _"], grid: int, height: int, width: int
) -> Bool[Array, "b {height} {width}"]:
    """The value of its cell at every pixel; the last cells are cut where the grid does not divide the image."""
    return jnp.repeat(jnp.repeat(cells, grid, axis=1), grid, axis=2)[:, :height, :width]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutMix(ClassifierTraining):
    """Cross-entropy of images with a box of another one each, and both labels in the shares of their images.

    $$ L = \\lambda \\, \\mathrm{CE}(y) + (1 - \\lambda) \\, \\mathrm{CE}(y_{partner}) $$

    Attributes:
      beta: of the distribution of the share before the box is cut to the image, Beta(beta, beta).
      probability: with which a batch is mixed at all.
    """

    title = "CutMix"
    beta: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        above(self, beta=0)
        shares(self, "probability")

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """Loss over the global batch, class scores of the mixed images, and the share of the images in them."""
        labels = jnp.asarray(batch.labels)
        key, images = batch_key(rng, batch), jnp.asarray(batch.images)
        images, partners, share = mix(key, images, labels, beta=self.beta, probability=self.probability)
        _, logits = model(images, train=True, rng=image_keys(rng, batch))
        own, others = cross_entropy(logits, labels).mean(), cross_entropy(logits, partners).mean()
        return jax.lax.pmean(share * own + (1 - share) * others, DATA_AXIS), logits, {"share": share}


def mix(
    key: Key[Array, ""], images: Num[Array, "b h w c"], labels: Int[Array, " b"], *, beta: float, probability: float
) -> tuple[Num[Array, "b h w c"], Int[Array, " b"], Float[Array, ""]]:
    """Mix a batch that is spread over the devices of the mesh axis; runs per device.

    The batch has one box and one permutation, over all devices, from the key of the step, which is the same on each:
    each gathers the images of all (uint8) and takes its partners, so the loss does not depend on their number. The
    share is distributed as Beta(beta, beta), and the batch is mixed at all with the given probability.

    Returned are images with the box of their partners, labels of the partners, and the share of each image in its own
    picture, in [0, 1]; the partner has the rest.

    Reference: Yun et al., CutMix, ICCV 2019, section 3.1 and Eq. 2; the box as in the program of Choe et al.,
      CVPR 2020.
    """
    count, height, width, _ = images.shape
    whether_key, share_key, place_key, partner_key = jax.random.split(key, 4)
    share = jnp.where(
        jax.random.bernoulli(whether_key, probability), jax.random.beta(share_key, beta, beta, dtype=jnp.float32), 1.0
    )
    center = jax.random.randint(place_key, (2,), 0, jnp.array([height, width]))
    top, left, bottom, right = box(share, center, (height, width))
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)

    everyone = jax.lax.all_gather(images, DATA_AXIS, tiled=True)
    order = jax.random.permutation(partner_key, len(everyone))
    mine = jax.lax.dynamic_slice_in_dim(order, jax.lax.axis_index(DATA_AXIS) * count, count)
    partners = jax.lax.all_gather(labels, DATA_AXIS, tiled=True)[mine]
    area = (bottom - top) * (right - left) / (height * width)
    return jnp.where(inside[..., None], everyone[mine], images), partners, 1 - area


def box(
    share: Float[Array, ""], center: Int[Array, "2"], size: tuple[int, int]
) -> tuple[Int[Array, ""], Int[Array, ""], Int[Array, ""], Int[Array, ""]]:
    """The box that leaves an image about the given share of its area; what lies outside of the image is cut off.

    $$ side = \\lfloor n \\sqrt{1 - \\lambda} \\rfloor, \\quad
       from = \\max(c - \\lfloor side / 2 \\rfloor, 0), \\quad to = \\min(c + \\lfloor side / 2 \\rfloor, n) $$

    With the share lambda in [0, 1], c the centre's row and column, and n height and width of the image in pixels.

    Returned are top, left, and one past the last row and column.
    """
    length = jnp.array(size)
    half = (length * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
    (top, left), (bottom, right) = jnp.maximum(center - half, 0), jnp.minimum(center + half, length)
    return top, left, bottom, right
