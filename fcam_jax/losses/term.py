"""The contract of every term of the loss: a frozen dataclass of its settings, called with what the step knows.

A term of your own derives from `LossTerm`, says what it is for an image or for the batch, and is registered by
`@LOSSES.register("mine")`; its keys are then ``fcam.loss.mine.*``. Weight and schedule stand outside
of it (`Weighted`).
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num, UInt8

from fcam_jax.component import at_least
from fcam_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a step of F-CAM's training knows of this device's images.

    Attributes:
      logits: map scores before softmax, background and foreground.
      maps: their softmax S, float32.
      seeds: pseudo-labels, -1 where unknown.
      images: RGB as the network sees them.
      raw: RGB before augmentation, which the CRF sees.
      keys: one random key an image; a term that draws folds a number of its own into it.
      step: updates before this one.
      scores: class scores before softmax, of the classifier that is being trained where a term trains it.
      labels: class of each image.
      image: the image as the decoder's second head makes it, in [0, 1]; None where no term that counts needs it.
      sharpness: t of the log-barriers at this step.
      axis_name: mesh axis over which the batch is spread; None: this device has all of it.
    """

    logits: Float[Array, "b h w k"]
    maps: Float[Array, "b h w k"]
    seeds: Int[Array, "b h w"]
    images: UInt8[Array, "b h w 3"]
    raw: UInt8[Array, "b h w 3"]
    keys: Key[Array, " b"]
    step: Int[Array, ""]
    scores: Num[Array, "b n"] | None = None
    labels: Int[Array, " b"] | None = None
    image: Num[Array, "b h w 3"] | None = None
    sharpness: Num[Array, ""] | float = 1.0
    axis_name: str | None = None

    def mean(self, values: Num[Array, " b"]) -> Num[Array, ""]:
        """Mean over the images of the whole batch."""
        return values.mean() if self.axis_name is None else jax.lax.pmean(values.mean(), self.axis_name)


class LossTerm:
    """A term of the loss. Either of the first two methods is to be written.

    Attributes of the class:
      default_weight: its weight where a configuration does not say another; 0 leaves it out.
      needs_image: it looks at `Evidence.image`, so the decoder gets a second head.
      trains_classifier: it learns from `Evidence.scores`, so the classifier is trained with the decoder.
      pictured: its pull on the foreground is drawn in the pictures of training.
      floods: too large a weight of it makes maps all foreground, or none, and `fcam.remedy` lowers it.
    """

    default_weight: ClassVar[float] = 0.0
    needs_image: ClassVar[bool] = False
    trains_classifier: ClassVar[bool] = False
    pictured: ClassVar[bool] = False
    floods: ClassVar[bool] = False

    def of_images(self, known: Evidence) -> Float[Array, " b"]:
        """The term of every image."""
        raise NotImplementedError(f"{type(self).__name__} has neither of_images nor __call__")

    def __call__(self, known: Evidence) -> Float[Array, ""]:
        """The term of the whole batch, the same on every device."""
        return known.mean(self.of_images(known))

    def figures(self, known: Evidence) -> dict[str, Float[Array, ""]]:
        """Further figures for the log, means over the whole batch."""
        return {}

    def shared(self, step: Int[Array, ""]) -> dict[str, Any]:
        """What its settings tell all terms, whatever its weight: values of fields of `Evidence`."""
        return {}


@dataclasses.dataclass(frozen=True)
class Weighted:
    """A term with its weight and the updates in which it counts.

    Attributes:
      term: the term.
      weight: factor of the term, at least 0; 0 leaves it out of the computation altogether.
      start: updates before it counts.
      end: updates after which it does not count any more; None keeps it to the end.

    Raises:
      InputError: for a weight below 0, or an end that is not after the start.
    """

    term: LossTerm
    weight: float
    start: int = 0
    end: int | None = None

    def __post_init__(self):
        at_least(self, weight=0, start=0)
        if self.end is not None and self.end <= self.start:
            raise InputError(
                f"end is {self.end}; it must be after start, which is {self.start} (a weight of 0 leaves the term out)"
            )

    def at(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """The weight at a step: `weight` within [start, end), otherwise 0."""
        end = jnp.inf if self.end is None else self.end
        return jnp.where((step >= self.start) & (step < end), self.weight, 0.0)
