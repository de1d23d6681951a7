"""Cross-entropy of the image's class: as a term, the classifier learns together with the decoder."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from fcam_jax.errors import InputError
from fcam_jax.losses.term import Evidence, LossTerm

ONE_CLASS = "there is one class, so labels tell nothing; add images without it as a second class, such as background"


def class_probabilities(logits: Num[Array, "b k"]) -> Float[Array, "b k"]:
    """The softmax of class scores; of a single score its sigmoid: a single class is there or not."""
    return jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.nn.softmax(logits)


def cross_entropy(logits: Num[Array, "b k"], labels: Int[Array, " b"]) -> Float[Array, " b"]:
    """Cross-entropy -log softmax(logits)[y] of every image, float32.

    Raises:
      InputError: there is one class, whose cross-entropy is 0 whatever the score.
    """
    if logits.shape[-1] == 1:
        raise InputError(ONE_CLASS)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(LossTerm):
    """Cross-entropy of the label, by the scores of the classifier that is being trained; in nats.

    Reference: F-CAM (WACV 2022), Eq. 3, first term of the classifier's loss.
    """

    trains_classifier: ClassVar[bool] = True

    def of_images(self, known: Evidence) -> Float[Array, " b"]:
        """-log softmax(scores)[y]."""
        assert known.scores is not None and known.labels is not None
        return cross_entropy(known.scores, known.labels)

    def figures(self, known: Evidence) -> dict[str, Float[Array, ""]]:
        """Accuracy of the classifier, in percent."""
        assert known.scores is not None and known.labels is not None
        return {"accuracy": known.mean(100.0 * jnp.equal(known.scores.argmax(axis=-1), known.labels))}
