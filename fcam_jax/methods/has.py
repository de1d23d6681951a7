"""Hide-and-seek: parts of the training images are hidden, so that a class must be told by the rest of its object."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from fcam_jax.component import at_least, shares
from fcam_jax.methods.classifier import ClassifierTraining, Outcome, plain
from fcam_jax.methods.contract import image_keys
from fcam_jax.models.classifier import Classifier
from fcam_jax.runtime.random import OfStep, stream
from fcam_jax.types import Batch


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

    Args:
      keys: a key for every image.
      images: in any range.
      color: mu, in the range of the images; the mean that normalisation takes away, so that a hidden pixel is 0 after
        it, as in the released program.
      grid: side of a cell in pixels.
      rate: r, the probability, in [0, 1].

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
