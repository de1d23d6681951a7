"""The ways to train stage 1 by name, with their settings; a new one is one file and one entry.

The order is that of the tables.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx
from jax.typing import DTypeLike

from fcam_jax.methods.acol import ACoLHead, acol
from fcam_jax.methods.adl import ADL
from fcam_jax.methods.classifier import Objective, plain
from fcam_jax.methods.cutmix import CutMix
from fcam_jax.methods.few_shot import FewShot
from fcam_jax.methods.has import HaS
from fcam_jax.methods.spg import SPG, SPGHead
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.heads import Head
from fcam_jax.models.saliency import Saliency

Settings = Mapping[str, Any]
BuildHead = Callable[[Encoder, int, Settings, DTypeLike, nnx.Rngs], Head]

PLAIN = "cam"  # the method without anything of its own
FEW_SHOT = "fsl"
PRETRAINED = "pretrained"


@dataclasses.dataclass(frozen=True)
class Training:
    """A way to train stage 1.

    Attributes:
      title: what the tables call it: the paper's name.
      defaults: its settings with their published values.
      objective: the objective from the settings; None where the method has no classes of the data set.
      head: its own head from encoder, number of classes, settings, compute dtype and randomness; None where the
        configuration chooses the head.
    """

    title: str
    defaults: dict[str, Any]
    objective: Callable[[Settings], Objective] | None
    head: BuildHead | None = None


def _defaults(of: Callable[..., Any]) -> dict[str, Any]:
    """The settings of a dataclass or a head: its arguments that have a value without being given."""
    parameters = inspect.signature(of).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty and one.name != "dtype"}


def _of_objective(title: str, kind: Callable[..., Objective], head: BuildHead | None = None) -> Training:
    return Training(title, _defaults(kind), lambda settings: kind(**settings), head)


def _acol_head(body: Encoder, num_classes: int, settings: Settings, dtype: DTypeLike, rngs: nnx.Rngs) -> Head:
    return ACoLHead(body.channels[-1], num_classes, **settings, dtype=dtype, rngs=rngs)


def _spg_head(body: Encoder, num_classes: int, settings: Settings, dtype: DTypeLike, rngs: nnx.Rngs) -> Head:
    guides = tuple(channels for _, channels in body.guide_places)
    return SPGHead(body.channels[-1], num_classes, guides=guides, width=body.guide_width, dtype=dtype, rngs=rngs)


def _saliency(body: Encoder, num_classes: int, settings: Settings, dtype: DTypeLike, rngs: nnx.Rngs) -> Head:
    return Saliency(body.channels[-1], dtype=dtype, rngs=rngs)


METHODS: dict[str, Training] = {
    PLAIN: Training("CAM", {}, lambda settings: plain),
    "has": _of_objective("HaS", HaS),
    "acol": Training("ACoL", _defaults(ACoLHead.__init__), lambda settings: acol, _acol_head),
    "spg": _of_objective("SPG", SPG, _spg_head),
    "adl": _of_objective("ADL", ADL),
    "cutmix": _of_objective("CutMix", CutMix),
    FEW_SHOT: Training("FSL baseline", _defaults(FewShot), None, _saliency),
    PRETRAINED: Training("ImageNet CAM", {}, None),
}
# They have no scores of the data set's classes, and so no F-CAM on them either.
WITHOUT_CLASSES = tuple(name for name, training in METHODS.items() if training.objective is None)


def default_settings(name: str) -> dict[str, Any]:
    """Settings of a method with their published values."""
    return dict(METHODS[name].defaults)
