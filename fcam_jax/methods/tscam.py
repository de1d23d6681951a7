"""TS-CAM: the classes of a transformer's patch tokens, times the attention that the class token pays to them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fcam_jax.cams.contract import Cam, Target
from fcam_jax.cams.score_maps import minmax
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ByCam, ClassifierTraining, enlarged
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Asking, Encoder, Stage
from fcam_jax.models.heads import INIT, Head
from fcam_jax.models.layers import conv
from fcam_jax.types import Batch, Localization


class TokenHead(Head):
    """A 3x3 convolution of the patch tokens to a map S for each class, whose mean is the class's score.

    $$ S_y = b_y + W_y * T, \\qquad \\mathrm{logit}_y = \\frac1Z \\sum_p S_{yp} $$

    Differs from: the released program, whose bias starts uniformly within 1/sqrt(9 D), here at 0.

    Reference: Gao et al., TS-CAM, ICCV 2021, section 3; the released program.
    """

    def __init__(self, features: int, num_classes: int, **of_layers: Any):
        self.conv = conv(features, num_classes, 3, bias=True, init=INIT, **of_layers)

    def maps(self, features: Float[Array, "b h w c"]) -> Float[Array, "b h w k"]:
        return self.conv(features).astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnTokens(ClassifierTraining):
    """A way to train a transformer whose head sees its patch tokens by a `TokenHead`, not the class token."""

    by_cam = False
    seed_stage = -1
    default_encoder = "deit_small"
    encoder_keywords: ClassVar[Mapping[str, Any]] = {"pool": "mean"}  # the head sees the patches

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> TokenHead:
        """The convolution; raises an `InputError` where the encoder is no transformer."""
        self.check(encoder)
        return TokenHead(encoder.channels[-1], num_classes, **of_layers)

    def check(self, encoder: Encoder) -> None:
        """Raise an `InputError` where the encoder is no transformer."""
        if not encoder.attention_blocks:
            raise InputError(
                f"{self.title} reads the attention of a transformer, and {type(encoder).__name__} has none; choose one "
                f"by --config.model.encoder={self.default_encoder}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TSCAM(OnTokens):
    """Cross-entropy of the mean of the class maps; the map of a class is its own times the attention of all blocks.

    $$ C_y = a \\odot S_y, \\qquad a = \\sum_l \\frac1H \\sum_h A_{l,h}[\\mathrm{class\\ token}, \\mathrm{patches}] $$

    A are the matrices after the softmax of the L blocks with H heads each. S is taken as it is. The map is enlarged
    bilinearly and then brought to [0, 1].

    Raises:
      InputError: the encoder is no transformer.

    Reference: Gao et al., TS-CAM: Token semantic coupled attention map, ICCV 2021, section 3; the released program.
    """

    title = "TS-CAM"

    def coupled(self, attention: Float[Array, "b h w"], semantic: Float[Array, "b h w"]) -> Float[Array, "b h w"]:
        """The map of the label, given a and S of it."""
        return attention * semantic

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b h w"]:
        network: Any = target.network
        stages, attention = attended(network.encoder, target.inputs, train=False)
        return self._of_labels(network, stages, attention, target.labels)

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """The map of the label at the image's size, in [0, 1], and class scores."""
        images = jnp.asarray(batch.images)
        stages, attention = attended(model.encoder, model.normalize(images), train=False)
        maps = self._of_labels(model, stages, attention, jnp.asarray(batch.labels))
        return Localization(minmax(enlarged(model, maps, batch)), model.score(stages[-1], len(stages) - 1))

    def _of_labels(
        self, model: Classifier, stages: tuple[Stage, ...], attention: Float[Array, "b h w"], labels: Int[Array, " b"]
    ) -> Float[Array, "b h w"]:
        return self.coupled(attention, model.activation(model.map_of(stages[-1]), labels))


def attended(
    encoder: Encoder, inputs: Float[Array, "b y x 3"], **how: Any
) -> tuple[tuple[Stage, ...], Float[Array, "b h w"]]:
    """The stages of normalised images, and what the class token attends to: a sum over blocks of means over heads."""
    places = {f"blocks.{number}.attn" for number in range(encoder.attention_blocks)}
    rows: list[Array] = []

    def at(place: str, x: Array) -> Array:
        if place in places:
            rows.append(class_attention(x))
        return x

    stages = encoder(inputs, at=Asking(at, places), **how)
    b, h, w, _ = encoder.map_of(stages[-1]).shape
    return stages, sum(rows, jnp.zeros(()))[:, -h * w :].reshape(b, h, w)


def class_attention(matrices: Float[Array, "b heads n n"]) -> Float[Array, "b n"]:
    """One block's share of a: what the class token, the first one, takes from all, mean over heads."""
    return matrices[:, :, 0].mean(axis=1)
