"""NL-CCAM: non-local blocks within the encoder, and a map out of those of all classes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from fcam_jax.cams.ccam import CCAM
from fcam_jax.cams.contract import Cam, Target
from fcam_jax.errors import InputError
from fcam_jax.methods.classifier import ByCam, ClassifierTraining
from fcam_jax.methods.places import last_places, of_encoder
from fcam_jax.models.classifier import Classifier, Images
from fcam_jax.models.encoder import At, Encoder, Keys, Stage, unchanged
from fcam_jax.models.non_local import NonLocal
from fcam_jax.models.vgg import VGG16
from fcam_jax.types import Batch, Localization

PLACES: Mapping[type[Encoder], tuple[str, ...]] = {VGG16: ("pool2", "pool3", "pool4|conv4_3", "conv5_3")}
_SETTINGS: Mapping[type[Encoder], dict[str, Any]] = {VGG16: {"top": (), "slope": 0.2}}


class NonLocalClassifier(Classifier):
    """A classifier whose encoder goes on, at four places, with what a non-local block makes of the map."""

    def __init__(self, network: Classifier, **of_layers: Any):
        super().__init__(network.encoder, network.head)
        places = last_places(network.encoder, PLACES, 4)
        self.places = tuple(place.name for place in places)
        self.blocks = nnx.List([NonLocal(place.channels, **of_layers) for place in places])

    def _behind_blocks(self, at: At, train: bool) -> At:
        def through(place: str, x: Array) -> Array:
            if place in self.places:
                x = self.blocks[self.places.index(place)](x, train=train)
            return at(place, x)

        return through

    def __call__(
        self, images: Images, *, train: bool, rng: Keys = None, at: At = unchanged
    ) -> tuple[tuple[Stage, ...], Float[Array, "b k"]]:
        return super().__call__(images, train=train, rng=rng, at=self._behind_blocks(at, train))

    def stages(self, inputs: Float[Array, "b h w 3"], *, at: At = unchanged) -> tuple[Stage, ...]:
        return super().stages(inputs, at=self._behind_blocks(at, False))

    def score(
        self, features: Stage, stage: int, *, train: bool = False, rng: Keys = None, at: At = unchanged
    ) -> Float[Array, "b k"]:
        return super().score(features, stage, train=train, rng=rng, at=self._behind_blocks(at, train))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NLCCAM(ClassifierTraining):
    """Cross-entropy of a classifier with four non-local blocks, localized by `CCAM`.

    The blocks are those of the authors' program in VGG16, whose ReLUs are LeakyReLUs of slope 0.2 and which has no new
    layers on top; in other encoders they are at the ends of the last four stages. They learn at the rate of the
    pretrained layers.

    Attributes:
      combination: weights of the classes' maps by rank: "linear", "quadratic", "top" or "top_bottom", as of `CCAM`.
      split: of "quadratic", as of `CCAM`; 0: half of the classes.

    Raises:
      InputError: a setting is outside its range; the encoder is a transformer.

    Differs from: the program, which has the third block behind pool4; where a finer top map has done away with that
      pool it is behind conv4_3.

    Reference: Yang et al., Combinational class activation maps, WACV 2020, section 3; the released program.
    """

    title = "NL-CCAM"
    by_cam = False
    seed_stage = -1
    combination: str = "quadratic"
    split: int = 0

    def __post_init__(self) -> None:
        self._cam()  # which refuses what it cannot combine by

    def encoder_settings(self, encoder: Callable[..., Encoder]) -> dict[str, Any]:
        """No new layers on top, and LeakyReLUs, where the authors' program has them."""
        return of_encoder(_SETTINGS, encoder) or {}

    def extend(self, network: Classifier, **of_layers: Any) -> NonLocalClassifier:
        if network.encoder.attention_blocks:
            raise InputError(
                "classifier.method=nl_ccam puts self-attention into a convolutional encoder, and this one has it "
                "already: take classifier.method=cam with cam.name=ccam"
            )
        return NonLocalClassifier(network, **of_layers)

    def learning_rate_factor(self, path: tuple[Any, ...], default: float) -> float:
        """The blocks learn as the layers around them do."""
        return 1.0 if path[0] == "blocks" else default

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """Maps of the combination; the batch's labels have no part in them."""
        return by_cam(model, batch, cam=self._cam())

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b _ _"]:
        return self._cam()(target)

    def _cam(self) -> CCAM:
        return CCAM(combination=self.combination, split=self.split)
