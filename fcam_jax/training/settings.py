"""How a stage is trained: what a user sets, and the length and intervals of the loop."""

import dataclasses

from fcam_jax.component import at_least
from fcam_jax.training.checkpoint import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How updates are computed and kept, in both stages.

    Attributes:
      least_updates: an epoch has at least so many updates; small data are gone through several times in one.
      accumulate: parts of a batch that a device takes one after the other, for one update.
      remat: less memory for more time: maps are computed again for the gradients.
      checkpoint_steps: steps between two checkpoints within an epoch; 0: at the ends of epochs only.
      watchdog_seconds: a standstill of so long is told, with what is waited for; 0: never.
    """

    least_updates: int = 1
    accumulate: int = 1
    remat: bool = False
    checkpoint_steps: int = 1000
    watchdog_seconds: float = 300.0

    def __post_init__(self) -> None:
        at_least(self, least_updates=1, accumulate=1, checkpoint_steps=0, watchdog_seconds=0)


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop.

    Attributes:
      name: the stage's name, for people.
      epochs: length of the training.
      steps_per_epoch: steps from one validation to the next.
      log_steps: steps between two lines of the log; figures stay on the device in between.
      selection: validation figure by which the best model is chosen (`choice.py`); or "last", the newest.
      ties: validation figure that chooses among models whose `selection` is as good within the noise; empty for none.
      checkpoint_steps: steps between two checkpoints within an epoch; 0 for none but those of the epochs' ends.
      watchdog_seconds: seconds after which a standstill is told; 0 for never.
    """

    name: str
    epochs: int
    steps_per_epoch: int
    log_steps: int
    selection: str
    ties: str = ""
    checkpoint_steps: int = 0
    watchdog_seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    def needs_validation(self, progress: Progress) -> bool:
        """Whether the state at the end of an epoch, or the initial one, is still to be validated."""
        return progress.step % self.steps_per_epoch == 0 and progress.validated != progress.step
