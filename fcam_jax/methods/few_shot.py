"""The few-shot baseline: what a few images with ground truth of places teach, in the place of many with classes alone.

These images are some of those that choose the other methods' best model and settings. So none are left to choose its
own: its last model counts.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key, UInt8

from fcam_jax.errors import InputError
from fcam_jax.methods.contract import image_keys, rate_of_layers
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Stage
from fcam_jax.types import DATA_AXIS, OBJECT, UNDECIDED, Batch, Localization


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Which images are trained on.

    Attributes:
      images_per_class: of the validation split, or all where a class has fewer; the protocol's 5 on CUB and OpenImages,
        10 on ILSVRC.

    Raises:
      InputError: a setting is outside its range.
    """

    images_per_class: int = 5

    def __post_init__(self) -> None:
        if self.images_per_class < 1:
            raise InputError(f"classifier.fsl.images_per_class is {self.images_per_class}; it must be at least 1")


@dataclasses.dataclass(frozen=True)
class FewShotMethod:
    """Training of a class-agnostic map by ground truth of places; the map localizes. There are no class scores.

    Attributes:
      new_layers: prefixes of the paths of variables that were not pretrained, which learn faster.
      new_layers_factor: how much faster.

    Reference: Choe et al., CVPR 2020, the few-shot learning baseline. No program of it is published; that the map is
      enlarged before the loss, and not normalised before it is evaluated, is a choice of this one.
    """

    new_layers: tuple[tuple[str, ...], ...]
    new_layers_factor: float
    trainable: Any = nnx.Param

    def loss(
        self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Mean binary cross-entropy of the decided pixels of the global batch; pixels told right in percent."""
        assert batch.objects is not None
        stages, _ = model(jnp.asarray(batch.images), train=True, rng=image_keys(rng, batch))
        return pixel_cross_entropy(_logits(model, stages, batch), jnp.asarray(batch.objects))

    def localize(self, model: Classifier, batch: Batch) -> Localization:
        """The probability that a pixel is of the object, in [0, 1], not normalised again; no class scores."""
        stages, _ = model(jnp.asarray(batch.images), train=False)
        return Localization(jax.nn.sigmoid(_logits(model, stages, batch)), None)

    def learning_rate_factor(self, path: tuple[Any, ...]) -> float:
        """`new_layers_factor` for new layers, 1 for pretrained ones."""
        return rate_of_layers(path, self.new_layers, self.new_layers_factor)


def pixel_cross_entropy(
    logits: Float[Array, "b h w"], objects: UInt8[Array, "b h w"]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Binary cross-entropy over the pixels that are decided, of all devices; each pixel counts alike.

    $$ L = -\\frac{1}{|D|} \\sum_{p \\in D} t_p \\log \\sigma(l_p) + (1 - t_p) \\log (1 - \\sigma(l_p)) $$

    Args:
      logits: l, before the sigmoid.
      objects: t, as `Batch.objects`; D is where it is decided.

    Returns:
      The loss, 0 without a decided pixel, and "accuracy": the share of D that is told right, in percent.
    """
    target, decided = objects == OBJECT, objects != UNDECIDED
    losses = jax.nn.softplus(jnp.where(target, -logits, logits))
    right = (logits > 0) == target
    count, loss, correct = jax.lax.psum(
        (decided.sum(), jnp.where(decided, losses, 0).sum(), (decided & right).sum()), DATA_AXIS
    )
    count = jnp.maximum(count, 1)
    return loss / count, {"accuracy": 100.0 * correct / count}


def _logits(model: Classifier, stages: tuple[Stage, ...], batch: Batch) -> Float[Array, "b h w"]:
    """The map before the sigmoid at the image's size, enlarged bilinearly."""
    maps = model.activation(model.map_of(stages[-1]), jnp.asarray(batch.labels))
    return jax.image.resize(maps, batch.images.shape[:3], "bilinear")
