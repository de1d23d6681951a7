"""Measures that need the network, and so are taken on the device while the maps are made: another kind than metrics.

Insertion and deletion ask whether the class score hangs on the pixels that a map ranks high.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.component import Registry, at_least
from fcam_jax.evaluation.faithfulness.baseline import baseline_of
from fcam_jax.evaluation.faithfulness.curves import area, exchanged
from fcam_jax.evaluation.faithfulness.watched import score_of
from fcam_jax.methods.contract import Localizer
from fcam_jax.types import Batch, Localization


class DeviceMeasure(abc.ABC):
    """A frozen dataclass of settings; the means of its figures over the split stand beside those of the metrics."""

    needs_classes: ClassVar[bool] = True  # whether it watches class scores, which some methods do not have

    @abc.abstractmethod
    def measure(self, model: Any, batch: Batch, found: Localization) -> dict[str, Float[Array, " b"]]:
        """Figures of each image by name, in [0, 1]; compiled with the model's forward pass.

        The model is a `Classifier`, or has one as its ``classifier``; `found` has maps and scores of the batch.
        """


DEVICE_MEASURES: Registry[type[DeviceMeasure]] = Registry("device measure", {})


@dataclasses.dataclass(frozen=True)
class WithMeasures:
    """A localizer whose maps are judged by measures on the device, too."""

    localizer: Localizer
    measures: Sequence[DeviceMeasure]

    def localize(self, model: Any, batch: Batch) -> Localization:
        """The localizer's maps and scores, and the figures of the measures."""
        found = self.localizer.localize(model, batch)
        figures: dict[str, Float[Array, " b"]] = {}
        for one in self.measures:
            figures |= one.measure(model, batch, found)
        return dataclasses.replace(found, measures=figures)


@DEVICE_MEASURES.register("InsertionDeletion")
@dataclasses.dataclass(frozen=True, kw_only=True)
class InsertionDeletion(DeviceMeasure):
    """Mean areas under the curves of the class's probability (`faithfulness`): Insertion is better high, Deletion low.

    The class is that of the map. A pixel that is taken away has the mean colour that the network subtracts.

    Attributes:
      steps: of both curves; each takes two forward passes an image.
    """

    steps: int = 32

    def __post_init__(self) -> None:
        at_least(self, steps=1)

    def measure(self, model: Any, batch: Batch, found: Localization) -> dict[str, Float[Array, " b"]]:
        """Areas under the two curves of each map."""
        classifier = getattr(model, "classifier", model)
        images, maps = jnp.asarray(batch.images, jnp.float32), jnp.asarray(found.maps)
        score = score_of(lambda shown: classifier(shown, train=False)[1], jnp.asarray(batch.labels))
        blank = baseline_of(images, tuple(classifier.encoder.mean))
        starts, ends = jnp.stack([baseline_of(images, "blur"), images]), jnp.stack([images, blank])
        areas = jax.lax.map(lambda pair: area(exchanged(score, pair[0], pair[1], maps, self.steps)), (starts, ends))
        return dict(zip(("Insertion", "Deletion"), areas, strict=True))
