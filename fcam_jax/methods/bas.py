"""BAS: a map of the foreground learns to leave a background that does not show the class."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam, Target
from fcam_jax.cams.score_maps import minmax
from fcam_jax.component import at_least, shares
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.acol import Branch
from fcam_jax.methods.classifier import ByCam, ClassifierTraining, Outcome, enlarged
from fcam_jax.methods.contract import constant, image_keys
from fcam_jax.methods.places import needs_map
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder, Keys, Stage
from fcam_jax.models.heads import GAP
from fcam_jax.models.layers import conv
from fcam_jax.runtime.random import named
from fcam_jax.types import DATA_AXIS, Batch, Localization

_CUT = -2  # position of the stage that the foreground is seen in, and the network goes on from without it
_TINY = 1e-8  # beside the score that another is divided by


class RectifiedGAP(GAP):
    """The mean of each class's map, of which what is below 0 counts as 0."""

    def maps(self, features: Float[Array, "b h w c"]) -> Float[Array, "b h w n"]:
        return nnx.relu(super().maps(features))

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        """The map of the given class of each image, float32 and at least 0."""
        return nnx.relu(super().activation(features, labels))


class BASHead(Branch):
    """{3x3 convolution to `width` channels, ReLU} twice, rectified class maps, and beside them the layer `foreground`.

    That is a 3x3 convolution of a lower stage, of `lower` channels, to the map of each class before its sigmoid.
    """

    def __init__(self, features: int, num_classes: int, *, lower: int, width: int, **of_layers: Any):
        super().__init__(features, num_classes, width=width, top=RectifiedGAP, **of_layers)
        self.foreground = conv(lower, num_classes, 3, bias=True, **of_layers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BAS(ClassifierTraining):
    """Background activation suppression, with a foreground map M of every class from the stage before the top one.

    $$ L = \\mathrm{CE}(S) + w\\, \\mathrm{CE}(\\mathrm{mean}_p\\, M_{yp} C_p)
           + r + \\beta\\, \\mathrm{mean}_p\\, M_{yp}, \\qquad r = \\frac{S^b_y}{S_y + \\epsilon} $$

    C are the class maps, of which the class scores S are the means, and S^b are the scores of what the network sees
    where the map M of the label y leaves something of the features: F (1 - M_y). r reaches F through M_y alone, and not
    the layers after it, which are those of S as they are; their BatchNorm takes the statistics of what is left. It
    localizes by the mean of M over the `top_k` classes with the highest scores.

    Attributes:
      beta: weight of the map's mean; 1.2 on CUB and 2 on ILSVRC (ResNet50).
      foreground: weight w of the cross-entropy of the foreground; 0 for VGG16 on CUB.
      unsuppressed: r where the background scores as high as the image; 0 in the released program.
      top_k: classes whose maps localize, or all where there are fewer; 200 on CUB, 80 for VGG16.
      width: channels of the head's convolutions.

    Raises:
      InputError: a setting is outside its range, or the head of the encoder sees a class token.

    Differs from: the released program, which has networks of its own. Here the map M is of an encoder's stage before
    the top one; ResNet's last stage follows a max-pool at a final stride of 16, as there.

    Reference: Wu et al., Background activation suppression, CVPR 2022, section 3; the released program.
    """

    title = "BAS"
    by_cam = False
    seed_stage = _CUT
    # The head is in the place of new layers on top; the last halving is a max-pool.
    encoder_keywords: ClassVar[Mapping[str, Any]] = {"top": (), "pooled": True}
    bias_factor = 2.0
    beta: float = 1.2
    foreground: float = 0.5
    unsuppressed: float = 0.0
    top_k: int = 200
    width: int = 1024

    def __post_init__(self) -> None:
        at_least(self, beta=0, foreground=0, top_k=1, width=1)
        shares(self, "unsuppressed")

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> BASHead:
        needs_map(encoder)
        return BASHead(encoder.channels[-1], num_classes, lower=encoder.channels[_CUT], width=self.width, **of_layers)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; class scores; its terms "ce", "foreground", "suppression" and "area"."""
        assert isinstance(model.head, BASHead)
        labels = jnp.asarray(batch.labels)
        stages, scores = model(jnp.asarray(batch.images), train=True, rng=image_keys(rng, batch))
        maps = of_class(foregrounds(model, stages), labels)
        class_maps = model.head.maps(*model.read(stages))
        weights = covered(maps, (class_maps.shape[1], class_maps.shape[2]))
        inside = (class_maps * weights[..., None]).mean(axis=(1, 2))
        keys = image_keys(named(rng, "bas.background"), batch)
        background = background_scores(model, stages[_CUT], maps, keys)
        terms = {
            "ce": cross_entropy(scores, labels).mean(),
            "foreground": cross_entropy(inside, labels).mean(),
            "suppression": self.ratio(of_class(scores, labels), of_class(background, labels)).mean(),
            "area": maps.mean(),
        }
        terms = jax.lax.pmean(terms, DATA_AXIS)
        classification = terms["ce"] + self.foreground * terms["foreground"]
        return classification + terms["suppression"] + self.beta * terms["area"], scores, terms

    def ratio(self, scores: Float[Array, " b"], background: Float[Array, " b"]) -> Float[Array, " b"]:
        """r of each image, from the label's scores of image and background; the former are a constant."""
        scores = jax.lax.stop_gradient(scores)
        return jnp.where(background >= scores, self.unsuppressed, background / (scores + _TINY))

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """The map at the image's size, scaled to [0, 1]; the label does not count."""
        stages, scores = model(jnp.asarray(batch.images), train=False)
        maps = self.mean_map(foregrounds(model, stages), scores)
        return Localization(minmax(enlarged(model, maps, batch, _CUT)), scores)

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b h w"]:
        network = target.network
        assert isinstance(network, Classifier)
        scores = network.head(*network.read(target.stages))
        return self.mean_map(foregrounds(network, target.stages), scores)

    def mean_map(self, maps: Float[Array, "b h w k"], scores: Float[Array, "b k"]) -> Float[Array, "b h w"]:
        """The mean of the maps of the classes with the highest scores."""
        _, chosen = jax.lax.top_k(scores, min(self.top_k, scores.shape[-1]))
        return jnp.take_along_axis(maps, chosen[:, None, None], axis=-1).mean(axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BASExtension(BAS):
    """BAS with r = 1 where the background scores no less than the image: the variant whose figures are published."""

    title = "BAS, extension"
    unsuppressed: float = 1.0


def foregrounds(model: Classifier, stages: tuple[Stage, ...]) -> Float[Array, "b h w k"]:
    """The map M of every class, in [0, 1], float32."""
    assert isinstance(model.head, BASHead)
    return jax.nn.sigmoid(model.head.foreground(model.map_of(stages[_CUT])).astype(jnp.float32))


def background_scores(model: Classifier, stage: Stage, maps: Float[Array, "b h w"], keys: Keys) -> Float[Array, "b k"]:
    """Class scores of features without their foreground, in training mode; a gradient passes to the maps alone.

    $$ S^b = g(F\\, (1 - M)) $$
    """
    fixed, stage = constant(model), jax.lax.stop_gradient(stage)
    features = fixed.map_of(stage)
    hidden = fixed.with_map(stage, features * (1 - maps[..., None]).astype(features.dtype))
    return fixed.score(hidden, len(fixed.encoder.channels) + _CUT, train=True, rng=keys)


def of_class(values: Float[Array, "b ... k"], labels: Int[Array, " b"]) -> Float[Array, "b ..."]:
    """The value, or map, of the given class of each image."""
    return values[jnp.arange(len(labels)), ..., labels]


def covered(maps: Float[Array, "b h w"], size: tuple[int, int]) -> Float[Array, "b {size[0]} {size[1]}"]:
    """The mean over the cells that each cell of a smaller map covers: 2x2 of them where it has half the side.

    What is left over at the end, as a max-pool leaves it, is left out.
    """
    for axis, count in enumerate(size, start=1):
        factor = max(round(maps.shape[axis] / count), 1)
        weights = jnp.arange(maps.shape[axis]) // factor == jnp.arange(count)[:, None]
        weights = weights / weights.sum(axis=1, keepdims=True)
        maps = jnp.moveaxis(jnp.tensordot(maps, weights, (axis, 1), precision="highest"), -1, axis)
    return maps
