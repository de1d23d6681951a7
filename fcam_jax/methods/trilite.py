"""TriLite's form: on a frozen encoder, a light head tells foreground, background and what is neither."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam, Target
from fcam_jax.cams.score_maps import minmax
from fcam_jax.component import at_least
from fcam_jax.errors import InputError
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import ByCam, Outcome, enlarged
from fcam_jax.methods.frozen import Frozen
from fcam_jax.models.batch_norm import BatchNorm
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.heads import WGAP, Head
from fcam_jax.models.layers import conv
from fcam_jax.types import DATA_AXIS, Batch, Localization

FOREGROUND, BACKGROUND = 1, 2  # channels of the regions; what is neither is channel 0
_SMALL = 1e-6


class TriLiteHead(Head):
    """A linear layer of what the encoder gives a head, and beside it the regions of the top map.

    $$ M = \\mathrm{softmax}(\\mathrm{BN}(W * F)) \\text{ over three channels} $$
    """

    def __init__(self, features: int, num_classes: int, *, side: int, **of_layers: Any):
        self.classes = WGAP(features, num_classes, **of_layers)
        self.conv = conv(features, 3, side, **of_layers)
        self.norm = BatchNorm(3, rngs=of_layers["rngs"])

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        return self.classes(features)

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        return self.classes.activation(features, labels)

    def regions(self, features: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w 3"]:
        """Share of each region in every position of the top map, float32."""
        return jax.nn.softmax(self.norm(self.conv(features), train=train).astype(jnp.float32))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TriLite(Frozen):
    """Cross-entropy of the image, and of the features of foreground and background.

    $$ L = \\mathrm{CE}(g) - \\log p_y(f^{\\mathrm{fg}}) - \\alpha \\log(1 - p_y(f^{\\mathrm{bg}}) + \\epsilon), \\qquad
       f^c = \\frac{\\sum_i M_i^c F_i}{\\sum_i M_i^c + \\epsilon} $$

    F is the top map, M the `TriLiteHead`'s regions, p the softmax of the linear layer, which scores the image (g), too,
    and epsilon 1e-6. The map is that of the foreground, of no class, enlarged bilinearly and brought to [0, 1].

    Attributes:
      alpha: weight of the background's term.
      side: of the convolution, odd.

    Raises:
      InputError: a setting is outside its range.

    Differs from: the paper in what it is not known to say: alpha, the side, epsilon, and that the convolution has no
      bias, are choices of this program.

    Reference: TriLite, arXiv 2602.23120; no program of it is published.
    """

    title = "TriLite-form"
    by_cam = False
    seed_stage = -1
    default_encoder = "dinov2_vits14"
    alpha: float = 0.5
    side: int = 3

    def __post_init__(self) -> None:
        at_least(self, alpha=0, side=1)
        if self.side % 2 == 0:
            raise InputError(f"side is {self.side}; it must be odd")

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> TriLiteHead:
        return TriLiteHead(encoder.channels[-1], num_classes, side=self.side, **of_layers)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; class scores; its terms before their weights."""
        head, labels = model.head, jnp.asarray(batch.labels)
        assert isinstance(head, TriLiteHead)
        stages, logits = model(jnp.asarray(batch.images), train=False)
        features = model.map_of(stages[-1])
        pooled = of_regions(head.regions(features, train=True), model.encoder.before_head(features))
        foreground, background = (head(pooled[:, None, None, which]) for which in (FOREGROUND, BACKGROUND))
        terms = {
            "ce": cross_entropy(logits, labels).mean(),
            "foreground": cross_entropy(foreground, labels).mean(),
            "background": other_class(background, labels).mean(),
        }
        terms = jax.lax.pmean(terms, DATA_AXIS)
        return terms["ce"] + terms["foreground"] + self.alpha * terms["background"], logits, terms

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b h w"]:
        network: Any = target.network
        return _foreground(network, target.stages[-1])

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """The foreground's map at the image's size, in [0, 1], and class scores."""
        stages, logits = model(jnp.asarray(batch.images), train=False)
        return Localization(minmax(enlarged(model, _foreground(model, stages[-1]), batch)), logits)


def of_regions(regions: Float[Array, "b h w 3"], features: Float[Array, "b h w c"]) -> Float[Array, "b 3 c"]:
    """The mean features of each region, weighted by its share in every position."""
    sums = jnp.einsum("bhwr,bhwc->brc", regions, features.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    return sums / (regions.sum(axis=(1, 2))[..., None] + _SMALL)


def other_class(logits: Float[Array, "b k"], labels: Int[Array, " b"]) -> Float[Array, " b"]:
    """-log of the probability that an image is not of the label's class."""
    probabilities = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], axis=1)[:, 0]
    return -jnp.log(1 - probabilities + _SMALL)


def _foreground(model: Classifier, top: Any) -> Float[Array, "b h w"]:
    assert isinstance(model.head, TriLiteHead)
    return model.head.regions(model.map_of(top), train=False)[..., FOREGROUND]
