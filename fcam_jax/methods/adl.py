"""ADL: in training, maps within the encoder lose what they attend to most, or are weighted by their attention."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from fcam_jax.component import shares
from fcam_jax.methods.classifier import ClassifierTraining, Outcome, plain
from fcam_jax.methods.contract import batch_key
from fcam_jax.methods.places import OF_ADL, three_places
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder
from fcam_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class ADL(ClassifierTraining):
    """Cross-entropy with attention-based dropout at three places of the encoder.

    They are those of the authors' programs; in other encoders, the ends of the last three stages. At every place one
    draw a step, for all images and devices alike as in the authors' program, decides between the drop mask and the
    importance map. Localization uses the network without either.

    Attributes:
      rate: probability of the drop mask.
      threshold: what the drop mask keeps is below this share of the maximum of an image's attention.

    Differs from: the released program, which leaves out InceptionV3's dropout under ADL; here the encoder keeps it.

    Reference: Choe and Shim, Attention-based dropout layer, CVPR 2019, section 3.
    """

    title = "ADL"
    rate: float = 0.75
    threshold: float = 0.9

    def __post_init__(self) -> None:
        shares(self, "rate", "threshold")

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """Mean cross-entropy of the global batch; class scores; no further figures."""
        places = attention_places(model.encoder)

        def at(place: str, x: Array) -> Array:
            if place not in places:
                return x
            key = jax.random.fold_in(batch_key(rng, batch), places.index(place))
            return attention_dropout(x, jax.random.bernoulli(key, self.rate), self.threshold)

        return plain(model, batch, rng, at=at)


def attention_places(encoder: Encoder) -> tuple[str, ...]:
    """Names of the three places where it sits, in their order."""
    return tuple(place.name for place in three_places(encoder, OF_ADL))


def attention_dropout(x: Float[Array, "b h w c"], drop: Bool[Array, ""], threshold: float) -> Float[Array, "b h w c"]:
    """The map without its most attended positions, or weighted by its attention.

    $$ A_p = \\frac1c \\sum_k x_{pk}, \\qquad
       x'_{pk} = x_{pk}\\, [A_p < t \\max_q A_q] \\;\\text{or}\\; x_{pk}\\, \\sigma(A_p) $$

    The drop mask is applied where `drop` is true, else the importance map, with t the threshold. The gradient passes
    through the importance map; the drop mask is constant almost everywhere.

    Reference: Choe and Shim, CVPR 2019, Eq. 1 and 2; the released program.
    """
    attention = x.mean(axis=-1, keepdims=True, dtype=jnp.float32)
    keep = attention < threshold * attention.max(axis=(1, 2), keepdims=True)
    return x * jnp.where(drop, keep.astype(jnp.float32), jax.nn.sigmoid(attention)).astype(x.dtype)
