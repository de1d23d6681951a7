"""Inequality constraints on the maps, as terms of the loss: a log-barrier keeps what must not be above 0 below it.

A new prior is a subclass of `Constraint` with its settings and `values`, registered as every term. All share the
sharpness t, which the settings of `Size` give.
"""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fcam_jax.component import above, at_least
from fcam_jax.errors import InputError
from fcam_jax.losses.log_barrier import barrier_sharpness, log_barrier
from fcam_jax.losses.term import Evidence, LossTerm


class Constraint(LossTerm):
    """What is asked of the maps, as m inequalities: the mean of their log-barriers for each image."""

    def values(self, maps: Float[Array, "b h w k"]) -> Float[Array, "b m"]:
        """The values z of the constraints z <= 0 for each image."""
        raise NotImplementedError(f"{type(self).__name__} has no values")

    def of_images(self, known: Evidence) -> Float[Array, " b"]:
        """The mean over the constraints of psi_t(z)."""
        return log_barrier(self.values(known.maps), known.sharpness).mean(axis=-1)


def region_sizes(maps: Float[Array, "b h w k"]) -> Float[Array, "b k"]:
    """Soft area of every region in pixels, between 0 and h*w.

    $$ a_{bk} = \\sum_p S_{bpk} $$

    Reference: F-CAM (WACV 2022), Eq. 3, constraint.
    """
    return maps.astype(jnp.float32).sum(axis=(1, 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size(Constraint):
    """The absolute size constraint "every region has size >= 0": z = -a, in pixels.

    Inside the barrier its gradient, -1/(t a), pushes every region to grow, the smaller the stronger; that is what
    expands the foreground beyond its seeds.

    Attributes:
      barrier_start: sharpness t of all barriers at first, above 0.
      barrier_rate: factor on t after every `barrier_updates`, above 0.
      barrier_updates: updates from one factor to the next; 188 are an epoch of CUB in the paper.
      barrier_limit: largest t, above 0.

    Raises:
      InputError: for a setting outside its range.

    Reference: F-CAM (WACV 2022), Eq. 3, constraint, and Sec. 3.1; Belharbi et al., Deep interpretable classification.
    """

    default_weight: ClassVar[float] = 0.1

    barrier_start: float = 1.0
    barrier_rate: float = 1.01
    barrier_updates: int = 188
    barrier_limit: float = 10.0

    def __post_init__(self):
        above(self, barrier_start=0, barrier_rate=0, barrier_limit=0)
        at_least(self, barrier_updates=1)

    def values(self, maps: Float[Array, "b h w k"]) -> Float[Array, "b k"]:
        return -region_sizes(maps)

    def shared(self, step: Int[Array, ""]) -> dict[str, Any]:
        """The sharpness of all barriers."""
        grown = step // self.barrier_updates
        return {"sharpness": barrier_sharpness(grown, self.barrier_start, self.barrier_rate, self.barrier_limit)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForegroundBounds(Constraint):
    """Bounds on the foreground's share s of the image: z = 100 (lower - s) and 100 (s - upper).

    The unit is a hundredth of the image: the same pull at every resolution, and at t = 1 a barrier that is a logarithm
    from one hundredth within the bounds on. With z in whole shares, which never reach -1, it would be two straight
    lines there, whose slopes cancel wherever s lies.

    Attributes:
      lower: smallest share, in [0, 1].
      upper: largest share, from `lower` to 1.

    Raises:
      InputError: for bounds outside their range.

    Reference: Kervadec et al., Constrained-CNN losses for weakly supervised segmentation, for bounds on sizes.
    """

    lower: float = 0.0
    upper: float = 1.0

    def __post_init__(self):
        if not 0 <= self.lower <= self.upper <= 1:
            raise InputError(
                f"lower is {self.lower} and upper is {self.upper}; shares must be 0 <= lower <= upper <= 1"
            )

    def values(self, maps: Float[Array, "b h w 2"]) -> Float[Array, "b 2"]:
        share = maps[..., 1].astype(jnp.float32).mean(axis=(1, 2))
        return 100 * jnp.stack([self.lower - share, share - self.upper], axis=-1)
