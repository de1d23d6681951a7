"""The few-shot baseline: what a few images with ground truth of places teach, instead of many with classes alone."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from fcam_jax.component import at_least
from fcam_jax.data.source import Source, few
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ByCam, ClassAgnostic, Outcome, enlarged
from fcam_jax.methods.contract import LAST, image_keys
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder, Stage
from fcam_jax.models.heads import GAP
from fcam_jax.types import DATA_AXIS, OBJECT, UNDECIDED, Batch, Localization


class Saliency(GAP):
    """A 1x1 convolution to one map of whatever is an object; its sigmoid is the probability that a position shows it.

    $$ p = \\sigma(b + \\sum_k w_k A_{kp}) $$

    Its score is the mean of the map before the sigmoid, that of the only class, "object".
    """

    def __init__(self, features: int, **of_layers: Any):
        super().__init__(features, 1, background=False, **of_layers)

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        """The map before the sigmoid, float32; the labels do not count."""
        return super().activation(features, jnp.zeros_like(labels))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShot(ClassAgnostic):
    """Training of a class-agnostic map by ground truth of places; the map localizes. There are no class scores.

    Its images are some of those that choose the other methods' best model. So none are left to choose its own: the last
    model counts.

    Attributes:
      images_per_class: of the validation split, or all where a class has fewer; the protocol's 5 on CUB and OpenImages,
        10 on ILSVRC.

    Reference: Choe et al., CVPR 2020, the few-shot learning baseline. No program of it is published; that the map is
      enlarged before the loss, and not normalised before it is evaluated, is a choice of this one.
    """

    title = "FSL baseline"
    selection = LAST
    images_per_class: int = 5

    def __post_init__(self) -> None:
        at_least(self, images_per_class=1)

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> Saliency:
        return Saliency(encoder.channels[-1], **of_layers)

    def training_records(self, sources: Mapping[str, Source], seed: int) -> Source:
        """Some validation images, with their ground truth.

        Raises:
          InputError: there are none, or none with boxes or masks.
        """
        val = sources.get("val")
        if val is None or not val.truth:
            raise InputError("classifier.method=fsl is trained on boxes or masks of the val split: there are none")
        return few(val, self.images_per_class, seed)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """Mean binary cross-entropy of the decided pixels of the global batch; pixels told right in percent."""
        assert batch.objects is not None
        stages, _ = model(jnp.asarray(batch.images), train=True, rng=image_keys(rng, batch))
        loss, figures = pixel_cross_entropy(_logits(model, stages, batch), jnp.asarray(batch.objects))
        return loss, None, figures

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """The probability that a pixel is of the object, in [0, 1], not normalised again; no class scores."""
        stages, _ = model(jnp.asarray(batch.images), train=False)
        return Localization(jax.nn.sigmoid(_logits(model, stages, batch)), None)


def pixel_cross_entropy(
    logits: Float[Array, "b h w"], objects: UInt8[Array, "b h w"]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Binary cross-entropy over the pixels that are decided, of all devices; each pixel counts alike.

    $$ L = -\\frac{1}{|D|} \\sum_{p \\in D} t_p \\log \\sigma(l_p) + (1 - t_p) \\log (1 - \\sigma(l_p)) $$

    With l the logits, t as `Batch.objects` and D where it is decided. The loss is 0 without a decided pixel; "accuracy"
    is the share of D that is told right, in percent.
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
    return enlarged(model, model.activation(model.map_of(stages[-1]), jnp.asarray(batch.labels)), batch)
