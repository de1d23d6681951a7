"""ACoL: two heads on one encoder; the second sees the features without what the first has found."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.score_maps import minmax
from fcam_jax.component import at_least, shares
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import ClassifierTraining, Outcome
from fcam_jax.methods.contract import image_keys
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.heads import GAP, Head
from fcam_jax.models.layers import conv
from fcam_jax.types import DATA_AXIS, Batch


class Branch(Head):
    """{3x3 convolution to `width` channels, ReLU} twice, and on top a map for each class, whose mean is its score."""

    def __init__(self, features: int, num_classes: int, *, width: int, top: type[GAP] = GAP, **of_layers: Any):
        self.conv1 = conv(features, width, 3, bias=True, **of_layers)
        self.conv2 = conv(width, width, 3, bias=True, **of_layers)
        self.top = top(width, num_classes, background=False, **of_layers)

    def _hidden(self, features: Array) -> Array:
        return nnx.relu(self.conv2(nnx.relu(self.conv1(features))))

    def maps(self, features: Float[Array, "b h w c"]) -> Float[Array, "b h w k"]:
        return self.top.maps(self._hidden(features))

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        return self.top.activation(self._hidden(features), labels)  # which makes no other class's map


class ACoLHead(Head):
    """Two branches, of which the second sees the features erased where the first's map of the label is high.

    Class scores, and so every CAM by gradients or scores, are those of the first branch; the head's own map is fused
    from both.
    """

    def __init__(self, features: int, num_classes: int, *, threshold: float, **of_branch: Any):
        self.first = Branch(features, num_classes, **of_branch)
        self.second = Branch(features, num_classes, **of_branch)
        self.threshold = threshold

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        return self.first(features)

    def both(
        self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]
    ) -> tuple[Float[Array, "b k"], Float[Array, "b k"]]:
        """Class scores of both branches; the label says what is erased for the second."""
        erased = erase(features, self.first.activation(features, labels), self.threshold)
        return self.first(features), self.second(erased)

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        """The higher of the two branches' maps of the label, each scaled to [0, 1]."""
        first = self.first.activation(features, labels)
        second = self.second.activation(erase(features, first, self.threshold), labels)
        return jnp.maximum(minmax(first), minmax(second))


def erase(features: Float[Array, "b h w c"], maps: Float[Array, "b h w"], threshold: float) -> Float[Array, "b h w c"]:
    """Features with zeros where a map, scaled to [0, 1], reaches the threshold; no gradient passes through the map.

    $$ F'_p = F_p\\, [M_p < t], \\qquad M = \\mathrm{minmax}(C_y) $$
    """
    return jnp.where((minmax(maps) >= threshold)[..., None], 0, features)  # a comparison passes no gradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class ACoL(ClassifierTraining):
    """Sum of the mean cross-entropies of both branches over the global batch.

    Attributes:
      threshold: what the second branch sees is below it in the first's map, scaled to [0, 1].
      width: channels of the branches' convolutions.

    Differs from: the released program, whose VGG16 has under ACoL overlapping 3x3 max-pools and a 3x3 mean before the
    branches; here every encoder stays what it is.

    Reference: Zhang et al., Adversarial complementary learning, CVPR 2018, section 3.2 and Fig. 3; Choe et al., CVPR
      2020, released program.
    """

    title = "ACoL"
    encoder_keywords: ClassVar[Mapping[str, Any]] = {"top": ()}  # the branches are in the place of new layers
    threshold: float = 0.7
    width: int = 1024

    def __post_init__(self) -> None:
        shares(self, "threshold")
        at_least(self, width=1)

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> ACoLHead:
        return ACoLHead(encoder.channels[-1], num_classes, **dataclasses.asdict(self), **of_layers)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss, the first branch's scores, and both terms, "first" and "second"."""
        assert isinstance(model.head, ACoLHead)
        labels = jnp.asarray(batch.labels)
        stages, _ = model(jnp.asarray(batch.images), train=True, rng=image_keys(rng, batch))
        first, second = model.head.both(model.encoder.for_head(stages[-1]), labels)
        means = cross_entropy(first, labels).mean(), cross_entropy(second, labels).mean()
        terms = dict(zip(("first", "second"), jax.lax.pmean(means, DATA_AXIS), strict=True))
        return terms["first"] + terms["second"], first, terms
