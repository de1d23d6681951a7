"""ICL-form: the object without its peak has to be like the whole of it and unlike the background, within an image."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from fcam_jax.cams.score_maps import minmax, resample
from fcam_jax.component import at_least, shares
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ClassifierTraining, Outcome, plain
from fcam_jax.methods.contract import batch_key
from fcam_jax.methods.eil import PLACES
from fcam_jax.methods.places import last_places, needs_map
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder, Place
from fcam_jax.models.layers import conv
from fcam_jax.models.non_local import NonLocal
from fcam_jax.types import DATA_AXIS, Batch

_EPSILON = 1e-6

Maps = Float[Array, "b h w"]
Mask = Bool[Array, "b h w"]


class Attention(nnx.Module):
    """A non-local block, whose mean over the channels is an attention, and an embedding of parts of the map."""

    def __init__(self, channels: int, *, width: int, **of_layers: Any):
        self.block = NonLocal(channels, **of_layers)
        self.embedding = conv(channels, width, 1, bias=True, **of_layers | {"dtype": jnp.float32})

    def __call__(self, x: Float[Array, "b h w c"]) -> Maps:
        """The attention, each image's scaled to [0, 1]."""
        return minmax(self.block(x, train=True).mean(axis=-1, dtype=jnp.float32))

    def embedded(self, x: Float[Array, "b h w c"], mask: Mask) -> Float[Array, "b d"]:
        """The mean of a map over a mask, embedded to the length 1; what is embedded for an empty mask says nothing."""
        weights = mask[..., None].astype(jnp.float32)
        mean = (x * weights).sum(axis=(1, 2), keepdims=True) / (weights.sum(axis=(1, 2), keepdims=True) + _EPSILON)
        z = self.embedding(mean)[:, 0, 0]
        return z / jnp.sqrt(jnp.square(z).sum(axis=-1, keepdims=True) + _EPSILON**2)


class AttentiveClassifier(Classifier):
    """A classifier with an attention for each of three places of its encoder, which only training computes."""

    def __init__(self, network: Classifier, *, width: int, **of_layers: Any):
        super().__init__(network.encoder, network.head)
        found = [Attention(place.channels, width=width, **of_layers) for place in places(network.encoder)]
        self.attentions_of_places = nnx.List(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ICLForm(ClassifierTraining):
    """Cross-entropy, a contrast within the image, and attention of early layers that agrees with that of late ones.

    $$ L = \\mathrm{CE} + \\lambda_1 L_{ca} + \\lambda_2 L_{fc}, \\qquad
       L_{ca} = \\overline{\\max(0, |z_d - z_f|^2 - |z_d - z_b|^2 + m)}, \\qquad
       L_{fc} = \\overline{(A_{early} - A_{late})^2} $$

    A is an attention at one of three places of the encoder, those of MEIL, in [0, 1]; z embeds the mean of the features
    where A is above `foreground` (f), above it and below `peak` (d), and below `background` (b). L_ca is the mean over
    places and those images that have all three parts; A_late is a constant for L_fc, which is the mean over the places
    behind the first. At every place one draw a step keeps part d of the map alone, or multiplies it by sigmoid(A).
    Localization uses the network without all of it.

    Attributes:
      foreground: share of the attention's range above which an image's object is.
      peak: above which it is what is dropped.
      background: below which the background is.
      rate: probability that a place keeps part d alone.
      margin: m.
      contrast: weight lambda_1 of L_ca.
      consistency: weight lambda_2 of L_fc.
      width: of the embedding.

    Raises:
      InputError: a setting is outside its range, or the thresholds are not in their order.

    Differs from: the paper, of which the abstract alone is known here and no program: the terms are its, every number
      and what else is said above are guesses. Its figures are not to be expected, and its name is not taken.

    Reference: Ki et al., In-sample contrastive learning and consistent attention for weakly supervised object
      localization, ACCV 2020, abstract.
    """

    title = "ICL-form"
    foreground: float = 0.5
    peak: float = 0.8
    background: float = 0.2
    rate: float = 0.75
    margin: float = 1.0
    contrast: float = 1.0
    consistency: float = 1.0
    width: int = 128

    def __post_init__(self) -> None:
        shares(self, "foreground", "peak", "background", "rate")
        at_least(self, margin=0, contrast=0, consistency=0, width=1)
        if not self.background <= self.foreground <= self.peak:
            given = f"background is {self.background}, foreground {self.foreground} and peak {self.peak}"
            raise InputError(f"{given}; they must rise")

    def extend(self, network: Classifier, **of_layers: Any) -> AttentiveClassifier:
        """The network with its attentions. Raises InputError: the encoder's head sees a class token."""
        needs_map(network.encoder)
        return AttentiveClassifier(network, width=self.width, **of_layers)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; class scores; its terms "ce", "contrast" and "consistency"."""
        assert isinstance(model, AttentiveClassifier)
        layers_of = model.attentions_of_places
        names = [place.name for place in places(model.encoder)]
        attentions: list[Array] = []
        contrasts: list[Array] = []

        def at(name: str, x: Array) -> Array:
            if name not in names:
                return x
            number = names.index(name)
            layers: Attention = layers_of[number]
            attention = layers(x)
            foreground, background = attention > self.foreground, attention < self.background
            rest = foreground & (attention < self.peak)
            parts = jnp.stack([rest, foreground, background])
            embedded = jnp.stack([layers.embedded(x, part) for part in parts])
            attentions.append(attention)
            contrasts.append(triplet(embedded, parts.any(axis=(2, 3)).all(axis=0), self.margin))
            drop = jax.random.bernoulli(jax.random.fold_in(batch_key(rng, batch), number), self.rate)
            weights = jnp.where(drop, rest.astype(jnp.float32), jax.nn.sigmoid(attention))
            return x * weights[..., None].astype(x.dtype)

        ce, logits, _ = plain(model, batch, rng, at=at)
        early, *late = attentions
        cells = early.shape[1], early.shape[2]
        late = [jax.lax.stop_gradient(resample(one, cells, None, None)) for one in late]
        agreed = [jnp.square(early - one).mean() for one in late]
        terms = {
            "ce": ce,
            "contrast": sum(contrasts, start=jnp.zeros(())) / len(contrasts),
            "consistency": jax.lax.pmean(sum(agreed, start=jnp.zeros(())) / len(agreed), DATA_AXIS),
        }
        return ce + self.contrast * terms["contrast"] + self.consistency * terms["consistency"], logits, terms


def places(encoder: Encoder) -> tuple[Place, ...]:
    """The three places of the attentions."""
    return last_places(encoder, PLACES, 3)


def triplet(embedded: Float[Array, "3 b d"], counted: Bool[Array, " b"], margin: float) -> Float[Array, ""]:
    """How far images are from keeping the margin, the mean over those of all devices that count; 0 where none does.

    $$ \\max(0, |z_d - z_f|^2 - |z_d - z_b|^2 + m) $$

    `embedded` are z_d of what is left of the object, z_f of the whole of it, and z_b of the background.
    """
    left, whole, background = embedded
    near, far = (jnp.square(left - other).sum(axis=-1) for other in (whole, background))
    losses = jnp.where(counted, jnp.maximum(near - far + margin, 0), 0).sum()
    total, count = jax.lax.psum((losses, counted.sum()), DATA_AXIS)
    return total / jnp.maximum(count, 1)
