"""SPG: the map of the label teaches side branches of the encoder, and these each other, where it is sure."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.score_maps import minmax, resize_bilinear
from fcam_jax.component import shares
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.losses.partial_cross_entropy import partial_cross_entropy
from fcam_jax.methods.classifier import ClassifierTraining, Outcome
from fcam_jax.methods.contract import image_keys
from fcam_jax.methods.places import OF_SPG, SPG_TOPS, SPG_WIDTHS, of_encoder, three_places
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder, Grid, Place
from fcam_jax.models.heads import GAP, Head
from fcam_jax.models.layers import conv
from fcam_jax.types import DATA_AXIS, Batch

_TOP_WIDTH = 512  # channels of the branch on the top stage, or the stage's own where they are fewer
_FEWEST = 30  # pixels of a foreground that is taken as it is
_FALLBACK = 0.7  # share of its maximum above which a map is foreground otherwise


class SideBranches(nnx.Module):
    """Three branches to a map of the foreground each.

    B1 and B2 read two places of the encoder (`guide_places`): a 3x3 convolution of `width` channels and ReLU each, then
    the same {3x3 convolution, ReLU, 1x1 convolution to a map}. C reads the top stage: {3x3 convolution, ReLU, 1x1
    convolution to a map}. `lower`, `upper` and `top` are the channels of what they read.

    Differs from: the released program, whose VGG16 subsamples before B1 at 1/16 maps, where the guide place is just
    before it here, and whose InceptionV3 drops half of the top stage once more before C and the class maps.

    Reference: Zhang et al., Self-produced guidance, ECCV 2018, section 3 and Fig. 2; Choe et al., CVPR 2020, released
      program.
    """

    def __init__(self, lower: int, upper: int, top: int, *, width: int, **of_layers: Any):
        top_width = min(top, _TOP_WIDTH)
        of_maps = of_layers | {"dtype": jnp.float32}
        self.b1 = conv(lower, width, 3, bias=True, **of_layers)
        self.b2 = conv(upper, width, 3, bias=True, **of_layers)
        self.shared = conv(width, width, 3, bias=True, **of_layers)
        self.shared_map = conv(width, 1, 1, bias=True, **of_maps)
        self.c = conv(top, top_width, 3, bias=True, **of_layers)
        self.c_map = conv(top_width, 1, 1, bias=True, **of_maps)

    def __call__(
        self, lower: Float[Array, "b h1 w1 c1"], upper: Float[Array, "b h2 w2 c2"], top: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h1 w1"], Float[Array, "b h2 w2"], Float[Array, "b h w"]]:
        """Maps of B1, B2 and C: scores of the foreground before the sigmoid, float32."""
        b1, b2 = (
            self.shared_map(nnx.relu(self.shared(nnx.relu(own(x)))))[..., 0]
            for own, x in ((self.b1, lower), (self.b2, upper))
        )
        return b1, b2, self.c_map(nnx.relu(self.c(top)))[..., 0]


class SPGHead(GAP):
    """A map for each class, pooled by its mean, and beside it `sides`, which only training computes."""

    weight_names = Head.weight_names  # it has more than the published layer

    def __init__(self, features: int, num_classes: int, *, guides: Sequence[int], width: int, **of_layers: Any):
        super().__init__(features, num_classes, background=False, **of_layers)
        self.sides = SideBranches(guides[0], guides[1], features, width=width, **of_layers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SPG(ClassifierTraining):
    """Cross-entropy, and that of the side branches where their teacher is sure.

    $$ L = \\mathrm{CE} + \\mathrm{BCE}(B_2 \\,|\\, A_y) + \\mathrm{BCE}(B_1 \\,|\\, \\sigma(B_2))
         + \\mathrm{BCE}(C \\,|\\, (\\sigma(B_1) + \\sigma(B_2)) / 2) $$

    Each BCE is the mean over those pixels of the global batch that its teacher decides (`guidance_mask`).

    Attributes:
      attention: thresholds (high, low) of the label's map A, which teaches B2.
      b2: of B2, which teaches B1.
      fused: of the mean of B1 and B2, which teaches C.

    Reference: Zhang et al., ECCV 2018, sections 3.2 and 3.3; Choe et al., CVPR 2020, released program.
    """

    title = "SPG"
    attention: tuple[float, float] = (0.7, 0.01)
    b2: tuple[float, float] = (0.5, 0.05)
    fused: tuple[float, float] = (0.7, 0.1)

    def __post_init__(self) -> None:
        shares(self, "attention", "b2", "fused")

    def encoder_settings(self, encoder: Callable[..., Encoder]) -> dict[str, Any]:
        """The new layers on top that the authors' program has."""
        top = of_encoder(SPG_TOPS, encoder)
        return {} if top is None else {"top": top}

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> SPGHead:
        guides = [place.channels for place in guide_places(encoder)]
        width = of_encoder(SPG_WIDTHS, encoder) or guides[1]
        return SPGHead(encoder.channels[-1], num_classes, guides=guides, width=width, **of_layers)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; class scores; its terms "ce", "b2", "b1" and "c"."""
        assert isinstance(model.head, SPGHead)
        images, labels = jnp.asarray(batch.images), jnp.asarray(batch.labels)
        seen: dict[str, Array] = {}

        def at(place: str, x: Array) -> Array:
            seen[place] = x
            return x

        stages, logits = model(images, train=True, rng=image_keys(rng, batch), at=at)
        top = model.encoder.for_head(stages[-1])
        guides, size = guide_places(model.encoder), (images.shape[1], images.shape[2])
        lower, upper = (seen[place.name] for place in guides)
        maps = model.head.activation(top, labels), *model.head.sides(lower, upper, top)
        terms = {"ce": jax.lax.pmean(cross_entropy(logits, labels).mean(), DATA_AXIS)}
        grids = [model.grid(stage, size) for stage in (-1, guides[0].stage, guides[1].stage, -1)]
        terms |= self.guided(*maps, size=size, grids=grids)
        return sum(terms.values(), start=jnp.zeros(())), logits, terms

    def guided(
        self, *maps: Float[Array, "b _ _"], size: tuple[int, int], grids: Sequence[Grid | None] = (None,) * 4
    ) -> dict[str, Float[Array, ""]]:
        """The three BCE terms over the global batch, by who learns; of the label's map and the scores of B1, B2, C."""
        class_map, b1, b2, c = (resize_bilinear(one, size, at) for one, at in zip(maps, grids, strict=True))
        fused = (jax.nn.sigmoid(b1) + jax.nn.sigmoid(b2)) / 2
        lessons = {  # who learns, from which map, where that is sure; masks pass no gradient to the teachers
            "b2": (b2, minmax(class_map), self.attention),
            "b1": (b1, jax.nn.sigmoid(b2), self.b2),
            "c": (c, fused, self.fused),
        }
        return {name: _binary(scores, guidance_mask(of, *sure)) for name, (scores, of, sure) in lessons.items()}


def guide_places(encoder: Encoder) -> tuple[Place, ...]:
    """The two places that B1 and B2 read."""
    return three_places(encoder, OF_SPG)[:2]


def guidance_mask(maps: Float[Array, "b h w"], high: float, low: float) -> Int[Array, "b h w"]:
    """Where a map in [0, 1] is sure: 1 foreground, 0 background, -1 undecided.

    Foreground is above `high`, but above .7 of the map's own maximum where that would be under 30 pixels; then
    background is below `low`, even if it was foreground.

    Reference: Zhang et al., ECCV 2018, Eq. 1; the fallback is the released program's.
    """
    sure = maps > high
    few = sure.sum(axis=(1, 2), keepdims=True) < _FEWEST
    foreground = jnp.where(few, maps > _FALLBACK * maps.max(axis=(1, 2), keepdims=True), sure)
    return jnp.where(maps < low, 0, jnp.where(foreground, 1, -1))


def _binary(scores: Float[Array, "b h w"], mask: Int[Array, "b h w"]) -> Float[Array, ""]:
    """Binary cross-entropy of the decided pixels: that of two regions, of which the background has the score 0."""
    return partial_cross_entropy(jnp.stack([jnp.zeros_like(scores), scores], axis=-1), mask, DATA_AXIS)
