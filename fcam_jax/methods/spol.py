"""SPOL, first part: class maps of the product of three stages, so that what is high is high in shallow ones, too."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam, Target
from fcam_jax.errors import InputError
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import ByCam, ClassifierTraining, Outcome, enlarged
from fcam_jax.methods.contract import image_keys
from fcam_jax.methods.places import COUNT, needs_map
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder, Map
from fcam_jax.models.heads import Head
from fcam_jax.models.layers import ConvBNReLU, conv, dropout, resize_align_corners
from fcam_jax.runtime.random import named
from fcam_jax.types import DATA_AXIS, Batch, Localization

_WIDTH = 128
_DROPOUT = 0.5
_EPSILON = 1e-6  # added to a map's maximum
_INIT = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class FusionHead(Head):
    """Maps of the product of the encoder's last three stages, gated by what they have in common.

    $$ g = \\prod_i \\mathrm{ReLU}(\\mathrm{BN}(U_i\\, \\mathrm{GAP}(x_i))), \\quad
       e_i = \\mathrm{ReLU}(\\mathrm{BN}(V_i (x_i \\odot \\sigma(W_i g)))), \\quad
       C = \\mathrm{ReLU}(T \\prod_i e_i) $$

    All layers are 1x1 convolutions, g and e have 128 channels, and the maps are as large as those of the first of the
    stages. Scores are the means of the maps.

    Args:
      channels: of the three stages.
      outputs: number of maps.
      rectified: whether the last ReLU is there.

    Reference: Wei et al., Shallow feature matters, CVPR 2021, section 3.2; released program.
    """

    reads = (-3, -2, -1)

    def __init__(self, channels: Sequence[int], outputs: int, *, rectified: bool, **of_layers: Any):
        of_conv: dict[str, Any] = {"bias": True, "init": _INIT, **of_layers}
        self.rectified = rectified
        self.gates = nnx.List([ConvBNReLU(c, _WIDTH, side=1, **of_conv) for c in channels])
        self.opened = nnx.List([conv(_WIDTH, c, 1, **of_conv) for c in channels])
        self.reduced = nnx.List([ConvBNReLU(c, _WIDTH, side=1, **of_conv) for c in channels])
        self.top = conv(_WIDTH, outputs, 1, **of_conv | {"dtype": jnp.float32})

    def fused(self, maps: Sequence[Map], *, train: bool) -> tuple[Map, Map]:
        """Features of the last stage alone, and of the product of all, both at the cells of the first."""
        common: Any = 1
        for gate, x in zip(self.gates, maps, strict=True):
            common = common * gate(x.mean(axis=(1, 2), keepdims=True), train=train)
        size = maps[0].shape[1], maps[0].shape[2]
        found = []
        for x, opened, reduced in zip(maps, self.opened, self.reduced, strict=True):
            features = reduced(x * jax.nn.sigmoid(opened(common)), train=train)
            found.append(features if features.shape[1:3] == size else resize_align_corners(features, size))
        return found[-1], found[0] * found[1] * found[2]

    def maps(self, features: Map) -> Float[Array, "b h w k"]:
        """The maps of features, float32."""
        maps = self.top(features)
        return nnx.relu(maps) if self.rectified else maps

    def dropped(self, features: Map, keys: Key[Array, " b"]) -> Float[Array, "b h w k"]:
        """The maps in training, with dropout of the features."""
        return self.maps(dropout(features, _DROPOUT, keys))

    def of_labels(self, maps: Sequence[Map], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        """The map of each image's label from those of the stages, in inference mode."""
        return self.activation(self.fused(maps, train=False)[1], labels)

    def __call__(self, *maps: Map) -> Float[Array, "b k"]:
        return super().__call__(self.fused(maps, train=False)[1])


def fusion_head(encoder: Encoder, outputs: int, *, rectified: bool, **of_layers: Any) -> FusionHead:
    """The head of an encoder.

    Raises:
      InputError: the encoder has fewer than three stages, or shows its head no map.
    """
    needs_map(encoder)
    if len(encoder.channels) < COUNT:
        raise InputError(f"{type(encoder).__name__} has {len(encoder.channels)} stages; the method needs {COUNT}")
    return FusionHead(encoder.channels[-COUNT:], outputs, rectified=rectified, **of_layers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SPOL(ClassifierTraining):
    """A classifier by the product of its last three stages, which learns from its top stage alone, too.

    $$ L = \\tfrac12 \\Big( \\mathrm{CE}(z_1, y)
         - \\sum_k \\mathrm{softmax}(z_1)_k \\log \\mathrm{softmax}(z_2)_k \\Big) $$

    With z_1 the scores of the top stage and z_2 those of the product, which teach the former nothing. Its maps of the
    training images are what `spol_segmenter` learns from.

    Attributes:
      distillation: false leaves the cross-entropy of z_2, as the released program has it on ILSVRC.

    Reference: Wei et al., CVPR 2021, section 3.2; released program.
    """

    title = "SPOL classifier"
    by_cam = False
    seed_stage = FusionHead.reads[0]
    distillation: bool = True

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> FusionHead:
        return fusion_head(encoder, num_classes, rectified=True, **of_layers)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; scores of the product; "top", the cross-entropy of the top stage."""
        assert isinstance(model.head, FusionHead)
        labels, head = jnp.asarray(batch.labels), model.head
        stages, _ = model(jnp.asarray(batch.images), train=True, rng=image_keys(rng, batch))
        keys = [image_keys(named(rng, f"spol.{of}"), batch) for of in ("top", "product")]
        features = head.fused(model.read(stages), train=True)
        top, product = (head.dropped(x, own).mean(axis=(1, 2)) for x, own in zip(features, keys, strict=True))
        if not self.distillation:
            return jax.lax.pmean(cross_entropy(product, labels).mean(), DATA_AXIS), product, {}
        loss, of_top = distilled(top, product, labels)
        return jax.lax.pmean(loss, DATA_AXIS), product, {"top": jax.lax.pmean(of_top, DATA_AXIS)}

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """The label's map over its maximum, enlarged bilinearly, and scores of the product."""
        assert isinstance(model.head, FusionHead)
        stages, logits = model(jnp.asarray(batch.images), train=False)
        maps = model.head.of_labels(model.read(stages), jnp.asarray(batch.labels))
        maps = maps / (maps.max(axis=(1, 2), keepdims=True) + _EPSILON)
        return Localization(enlarged(model, maps, batch, FusionHead.reads[0]), logits)

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b _ _"]:
        network = target.network
        assert isinstance(network, Classifier) and isinstance(network.head, FusionHead)
        return network.head.of_labels(network.read(target.stages), target.labels)


def distilled(
    top: Float[Array, "b k"], product: Float[Array, "b k"], labels: Int[Array, " b"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The loss of `SPOL` of these images, and the cross-entropy of the top stage in it.

    Reference: Wei et al., CVPR 2021, released program.
    """
    of_top = cross_entropy(top, labels).mean()
    teacher = jax.lax.stop_gradient(jax.nn.softmax(top))
    of_product = -(teacher * jax.nn.log_softmax(product)).sum(axis=-1).mean()
    return (of_top + of_product) / 2, of_top
