"""A frozen encoder under a trained head; its map is a CAM, or one that needs no training: TokenCut, LOST."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams import discovery
from fcam_jax.cams.contract import Cam, Target
from fcam_jax.cams.discovery import DiscoveryCAM
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import ByCam, ClassifierTraining, Outcome, localize_by_cam
from fcam_jax.models.classifier import Classifier
from fcam_jax.types import DATA_AXIS, Batch, Localization


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frozen(ClassifierTraining):
    """Cross-entropy, by which the head alone is trained; the encoder stays what its pretraining made of it.

    It runs in inference mode: BatchNorm has the statistics of the pretraining, and no path is dropped.
    """

    title = "Frozen encoder"
    trainable: ClassVar[Any] = nnx.All(nnx.Param, lambda path, _: path[0] != "encoder")

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """Mean cross-entropy of the global batch; class scores; no further figures."""
        _, logits = model(jnp.asarray(batch.images), train=False)
        losses = cross_entropy(logits, jnp.asarray(batch.labels))
        return jax.lax.pmean(losses.mean(), DATA_AXIS), logits, {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Discovery(Frozen):
    """A frozen encoder whose map is one of `cams.discovery`, for which nothing is trained; the class is the head's."""

    by_cam = False
    seed_stage = -1
    default_encoder = "dino_vits16"

    def __post_init__(self) -> None:
        _ = self.map  # it checks its setting

    def extend(self, network: Classifier, **of_layers: Any) -> Classifier:
        """The network; raises an `InputError` where it is no transformer."""
        self.map.check(network)
        return network

    @property
    def map(self) -> DiscoveryCAM:
        """What makes the map."""
        raise NotImplementedError

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b h w"]:
        return self.map(target)

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """The map at the image's size, in [0, 1], whatever the label, and class scores."""
        return localize_by_cam(model, batch, self.map, "protocol")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenCut(Discovery):
    """TokenCut on a frozen encoder, with a linear layer for the class.

    Attributes:
      tau: likeness from which on patches are joined, from -1 to 1; 0.05 in the released program's part for this.

    Differs from: the released program, whose linear layer sees the class tokens of the last four blocks, here what the
      configured head sees.

    Reference: `cams.discovery.TokenCut`.
    """

    title = "TokenCut"
    tau: float = discovery.TokenCut.tau

    @property
    def map(self) -> DiscoveryCAM:
        return discovery.TokenCut(tau=self.tau)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LOST(Discovery):
    """LOST on a frozen encoder, with a linear layer for the class, which the published system has not.

    Attributes:
      candidates: patches of least degree that may vote.

    Reference: `cams.discovery.LOST`.
    """

    title = "LOST"
    candidates: int = discovery.LOST.candidates

    @property
    def map(self) -> DiscoveryCAM:
        return discovery.LOST(candidates=self.candidates)
