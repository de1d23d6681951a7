"""Measures that need the network, and so are taken on the device while the maps are made: another kind than metrics."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from jaxtyping import Array, Float

from fcam_jax.component import Registry
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
