"""EIL and MEIL: what is left of a map without its most attended part has to be classified, too."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int, Key

from fcam_jax.component import shares
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.adl import attention_dropout
from fcam_jax.methods.classifier import ClassifierTraining, Outcome
from fcam_jax.methods.contract import image_keys
from fcam_jax.methods.places import OF_ADL, last_places, needs_map
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder, Place
from fcam_jax.models.vgg import VGG16
from fcam_jax.types import DATA_AXIS, Batch

PLACES: Mapping[type[Encoder], tuple[str, ...]] = {**OF_ADL, VGG16: ("pool3", "pool4|conv4_3", "conv5_3")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EIL(ClassifierTraining):
    """Cross-entropy of the image, and of what the same layers make of a map without what it attends to most.

    $$ L = \\mathrm{CE}(z, y) + \\sum_p \\mathrm{CE}(z'_p, y), \\qquad F'_q = F_q\\, [A_q < t \\max_r A_r] $$

    With A the mean of the map F at a place p over its channels, and z' the scores of the rest of the network behind p.
    EIL has one place, the second of three: in VGG16 pool4, and the ends of the last three stages where there is no
    program by the authors of EIL or ADL. The gradient passes to the layers before p where F is kept. Localization uses
    the whole map.

    Attributes:
      threshold: what is kept is below this share, t, of the maximum of an image's attention.

    Raises:
      InputError: a setting is outside its range.

    Differs from: the released program, which has pool4 at 1/16 maps alone; where a finer top map has done away with it,
      the place is conv4_3. BatchNorm's running statistics are those of whole images alone.

    Reference: Mai et al., Erasing integrated learning, CVPR 2020, section 3.2; the released program.
    """

    title = "EIL"
    threshold: float = 0.7

    def __post_init__(self) -> None:
        shares(self, "threshold")

    def places(self, encoder: Encoder) -> tuple[Place, ...]:
        """Where it erases."""
        return last_places(encoder, PLACES, 3)[1:2]

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch, scores of whole images, and its terms: "whole" and each place."""
        images, labels, keys = jnp.asarray(batch.images), jnp.asarray(batch.labels), image_keys(rng, batch)
        stages, logits = model(images, train=True, rng=keys)
        whole = jax.tree.map(jnp.copy, nnx.state(model, nnx.Not(nnx.Param)))
        scores = {"whole": logits}
        for place in self.places(model.encoder):
            before = stages[place.stage - 1] if place.stage else model.normalize(images)

            def erasing(name: str, x: Array, erased: str = place.name) -> Array:
                return attention_dropout(x, jnp.asarray(True), self.threshold) if name == erased else x

            scores[place.name] = model.score(before, place.stage - 1, train=True, rng=keys, at=erasing)
        nnx.update(model, whole)
        terms = {
            name: jax.lax.pmean(cross_entropy(of_one, labels).mean(), DATA_AXIS) for name, of_one in scores.items()
        }
        return sum(terms.values(), start=jnp.zeros(())), logits, terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class MEIL(EIL):
    """EIL at three places, in a branch each: in VGG16 pool3, pool4 and conv5_3.

    Differs from: the released program, which makes the layers for three places and uses the one of EIL; that every
      branch goes from its place to the scores, with the weight 1, is a choice of this one.

    Reference: Mai et al., Erasing integrated learning, CVPR 2020, section 3.3.
    """

    title = "MEIL"

    def extend(self, network: Classifier, **of_layers: Any) -> Classifier:
        """The network as it is. Raises InputError: its head sees a class token, and so nothing of the third place."""
        needs_map(network.encoder)
        return network

    def places(self, encoder: Encoder) -> tuple[Place, ...]:
        return last_places(encoder, PLACES, 3)
