"""Inequality constraints on the maps: what must not be above 0, as functions of the probabilities.

A new prior is one function, or a dataclass of its settings that is called as one, and one line in `CONSTRAINTS`.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.errors import InputError
from fcam_jax.losses.log_barrier import Scalar, log_barrier


@runtime_checkable
class Constraint(Protocol):
    """What is asked of the maps, as m inequalities."""

    def __call__(self, probs: Float[Array, "b h w k"]) -> Float[Array, "b m"]:
        """The values z of the constraints z <= 0 for each image."""


def barrier(values: Float[Array, "b m"], t: Scalar) -> Float[Array, " b"]:
    """Log-barrier of the constraints values <= 0, mean over the constraints of each image."""
    return log_barrier(values, t).mean(axis=-1)


def region_sizes(probs: Float[Array, "b h w k"]) -> Float[Array, "b k"]:
    """Soft area of every region in pixels, between 0 and h*w.

    $$ a_{bk} = \\sum_p S_{bpk} $$

    Reference: F-CAM (WACV 2022), Eq. 3, constraint.
    """
    return probs.astype(jnp.float32).sum(axis=(1, 2))


def nonnegative_sizes(probs: Float[Array, "b h w k"]) -> Float[Array, "b k"]:
    """The absolute size constraint "every region has size >= 0": z = -a, in pixels.

    Inside the barrier its gradient, -1/(t a), pushes every region to grow, the smaller the stronger; that is what
    expands the foreground beyond its seeds.

    Reference: F-CAM (WACV 2022), Eq. 3, constraint; Belharbi et al., Deep interpretable classification (ASC).
    """
    return -region_sizes(probs)


@dataclasses.dataclass(frozen=True)
class ForegroundBounds:
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
                f"fcam.loss.bounds: lower is {self.lower} and upper is {self.upper}; "
                "shares must be 0 <= lower <= upper <= 1"
            )

    def __call__(self, probs: Float[Array, "b h w 2"]) -> Float[Array, "b 2"]:
        """The values of both constraints, in hundredths of the image."""
        share = probs[..., 1].astype(jnp.float32).mean(axis=(1, 2))
        return 100 * jnp.stack([self.lower - share, share - self.upper], axis=-1)


# Further terms of the loss by name, made from their settings as keywords.
CONSTRAINTS: dict[str, Callable[..., Constraint]] = {"bounds": ForegroundBounds}


def default_settings(name: str) -> dict[str, Any]:
    """The settings of a constraint and their defaults."""
    return {one.name: one.default for one in inspect.signature(CONSTRAINTS[name]).parameters.values()}
