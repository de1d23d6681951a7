"""What is measured while training and for the results, as a configuration says it."""

import dataclasses
from typing import Any

from fcam_jax.component import at_least, defaults_of
from fcam_jax.evaluation.device_measure import DEVICE_MEASURES, DeviceMeasure, InsertionDeletion
from fcam_jax.evaluation.findings import Wanted
from fcam_jax.evaluation.metric import thresholds
from fcam_jax.evaluation.metrics import METRICS, extras, kinds, named


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationSettings:
    """What is measured while training.

    Attributes:
      selection: figure whose maximum chooses the model that is kept, of equally good ones within the noise that with
        the best top1_cls; empty: MaxBoxAcc where val has boxes, PxAP where it has masks, else top1_cls; "last" keeps
        the newest.
      threshold_step: distance of two thresholds, in (0, 1].
    """

    selection: str = ""
    threshold_step: float = 0.004

    def __post_init__(self) -> None:
        thresholds(self.threshold_step)

    @property
    def wanted(self) -> Wanted:
        """The metrics that are always measured, and the one that gives the figure of the selection."""
        also = [name for name in extras() if any(one.name == self.selection for one in METRICS[name].figures)]
        return Wanted(step=self.threshold_step, kinds=kinds(also))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What is measured for the results.

    Attributes:
      batch_size: images of an evaluation batch, over all devices.
      threshold_step: distance of two thresholds, in (0, 1].
      mirrored: whether maps and scores are means over each image and its mirror image; twice the time.
      also: names of figures beyond the protocol, with commas between.
      insertion_deletion_steps: of the curves of InsertionDeletion; each takes two forward passes an image.
      bootstrap: number of replicates for the 95 % intervals; 0 leaves them out.
      pictures: images in the grid.
      examples: images that the report can show.
    """

    batch_size: int = 32
    threshold_step: float = 0.001
    mirrored: bool = False
    also: str = ""
    insertion_deletion_steps: int = defaults_of(InsertionDeletion)["steps"]
    bootstrap: int = 1000
    pictures: int = 12
    examples: int = 100

    def __post_init__(self) -> None:
        at_least(self, batch_size=1, insertion_deletion_steps=1, bootstrap=0, pictures=0, examples=0)
        thresholds(self.threshold_step)
        _ = self.names

    @property
    def names(self) -> list[str]:
        """What is asked for by name."""
        return named(self.also, [*extras(), *DEVICE_MEASURES])

    @property
    def wanted(self) -> Wanted:
        """What is measured of each map, and of which parts."""
        measured = kinds(name for name in self.names if name in METRICS)
        return Wanted(step=self.threshold_step, kinds=measured, bootstrap=self.bootstrap, parts=True)

    @property
    def device_measures(self) -> tuple[DeviceMeasure, ...]:
        """What is measured on the device."""
        settings: dict[type[DeviceMeasure], Any] = {InsertionDeletion: {"steps": self.insertion_deletion_steps}}
        chosen = [kind for name, kind in DEVICE_MEASURES.items() if name in self.names]
        return tuple(kind(**settings.get(kind, {})) for kind in chosen)
