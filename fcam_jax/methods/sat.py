"""SAT: a token of its own tells where the object is, and what the others take from elsewhere is reduced by it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam, Target
from fcam_jax.cams.score_maps import minmax
from fcam_jax.component import at_least, shares
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ByCam, Outcome, enlarged, plain
from fcam_jax.methods.tscam import OnTokens
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import At, asked_for
from fcam_jax.models.transformer import Attention, scores
from fcam_jax.models.vit import ViT
from fcam_jax.types import DATA_AXIS, Batch, Localization

# A Gaussian, from the middle to the corners.
_MIDDLE, _SIDE, _CORNER = 0.805440, 0.046012, 0.002628
KERNEL = np.array([[_CORNER, _SIDE, _CORNER], [_SIDE, _MIDDLE, _SIDE], [_CORNER, _SIDE, _CORNER]], np.float32)


class SpatialAttention(Attention):
    """Self-attention whose shares are multiplied by a mask over the keys, that one of the tokens makes.

    $$ A' = \\mathrm{softmax}(s) \\odot m, \\qquad m_j = \\sigma\\Big(\\frac1H \\sum_h s_{h,t,j}\\Big) $$

    s are the products of queries and keys, scaled, of H heads; t is the token. Rows do not sum to 1 any more. The mask
    is shown at the place ``"blocks.I.attn.mask"``, [b, 1, 1, keys].

    Args:
      plain: the attention whose layers it takes over.
      token: t, its position in the sequence.
    """

    def __init__(self, plain: Attention, token: int):
        self.heads, self.qkv, self.proj, self.token = plain.heads, plain.qkv, plain.proj, token

    def __call__(self, x: Float[Array, "b t d"], at: At, place: str) -> Float[Array, "b t d"]:
        q, k, v = self.split(x)
        products = scores(q, k)
        matrices = jax.nn.softmax(products, axis=-1) * at(f"{place}.mask", spatial_mask(products, self.token))
        return self.mixed(at(place, matrices) if asked_for(at, place) else matrices, v)


def spatial_mask(products: Float[Array, "b heads t t"], token: int) -> Float[Array, "b 1 1 t"]:
    """The sigmoid of what a token's query gives with every key, mean over heads."""
    return jax.nn.sigmoid(products[:, :, token].mean(axis=1))[:, None, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SAT(OnTokens):
    """Cross-entropy, the area of the map, and how far the map is from a decision.

    $$ L = \\mathrm{CE} + \\Big|\\frac1{NZ} \\sum_{ip} M_{ip} - \\lambda\\Big|
         + \\frac1{NZ} \\sum_{ip} \\tilde M_{ip} (1 - \\tilde M_{ip}) $$

    M is the mean of the last blocks' masks (`SpatialAttention`) at the Z patches of the N images of the global batch,
    and with a tilde it is smoothed by a Gaussian of 3 x 3, with zeros around. The mean is over the batch, so images may
    have objects of unlike sizes. Head and scores are those of TS-CAM. The map, of no class, is enlarged bilinearly, and
    then brought to [0, 1].

    Attributes:
      area: lambda, the mean share of an image that its object takes; 0.25 on CUB, 0.35 on ILSVRC.
      blocks: how many of the last ones are masked.

    Raises:
      InputError: a setting is outside its range; the encoder is no transformer.

    Differs from: the released program in the place of the token, which is the last one there, and stands before the
      patches here; attention knows no order.

    Reference: Wu et al., Spatial-aware token for weakly supervised object localization, ICCV 2023, section 3; the
      released program.
    """

    title = "SAT"
    encoder_keywords: ClassVar[Mapping[str, Any]] = {"pool": "mean", "extra_tokens": 1}  # which makes the masks
    area: float = 0.25
    blocks: int = 3

    def __post_init__(self) -> None:
        shares(self, "area")
        at_least(self, blocks=1)

    def extend(self, network: Classifier, **of_layers: Any) -> Classifier:
        if not isinstance(network.encoder, ViT):
            raise InputError("classifier.method=sat is of the transformers of this package; take another method")
        if self.blocks > (depth := len(network.encoder.blocks)):
            raise InputError(f"classifier.sat.blocks is {self.blocks}; the encoder has {depth}")
        token = network.encoder.design.registers + 1
        for block in network.encoder.blocks[-self.blocks :]:
            block.attn = SpatialAttention(block.attn, token)
        return network

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; class scores; its terms "ce", "area" and "binary"."""
        masks = Masks()
        ce, logits, _ = plain(model, batch, rng, at=masks)
        terms = {"ce": ce} | self.of_map(masks.map())
        return sum(terms.values(), start=jnp.zeros(())), logits, terms

    def of_map(self, maps: Float[Array, "b h w"]) -> dict[str, Float[Array, ""]]:
        """The terms of the map over the global batch."""
        soft = smoothed(maps)
        area, binary = jax.lax.pmean((maps.mean(), (soft * (1 - soft)).mean()), DATA_AXIS)
        return {"area": jnp.abs(area - self.area), "binary": binary}

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b h w"]:
        network: Any = target.network
        masks = Masks()
        network.encoder(target.inputs, train=False, at=masks)
        return masks.map()

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """The map at the image's size, in [0, 1], and class scores."""
        masks = Masks()
        _, logits = model(jnp.asarray(batch.images), train=False, at=masks)
        return Localization(minmax(enlarged(model, masks.map(), batch)), logits)


class Masks:
    """An `At` that keeps the masks of a pass and the grid of its patches."""

    def __init__(self) -> None:
        self.seen: list[Array] = []
        self.cells = 0, 0

    def __call__(self, place: str, x: Array) -> Array:
        """Any map as it is."""
        if place.endswith(".mask"):
            self.seen.append(x)
        elif place == "norm":
            self.cells = x.shape[1], x.shape[2]
        return x

    def map(self) -> Float[Array, "b h w"]:
        """The masks' mean at the patches, which are the last tokens."""
        h, w = self.cells
        return sum(self.seen, jnp.zeros(()))[:, 0, 0, -h * w :].reshape(-1, h, w) / len(self.seen)


def smoothed(maps: Float[Array, "b h w"]) -> Float[Array, "b h w"]:
    """Maps under the Gaussian of 3 x 3, with zeros around them."""
    height, width = maps.shape[1:]
    around = jnp.pad(maps, [(0, 0), (1, 1), (1, 1)])
    parts = [KERNEL[i, j] * around[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return sum(parts, jnp.zeros(()))
