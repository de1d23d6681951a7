"""What the figures of an epoch say of F-CAM's maps: a flood, a collapse, seeds at chance; and what is done about it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.methods.contract import of_all
from fcam_jax.types import DATA_AXIS

# A map counts as constant where its foreground differs by less than this between any two pixels.
FLAT = 0.1

# The following tell two floods from six good runs on four data sets. Shares are in percent.
FLOODED, EMPTY = 95.0, 2.0  # of the foreground in the median map
MOSTLY = 50.0  # of the maps, or of a map
CONTRADICTED = 0.85  # cross-entropy of the seeds; ln 2 alone, that of a map that says nothing, occurs in good runs
AT_CHANCE = 0.66  # close to ln 2: the decoder has learnt nothing of its seeds
SETTLED = 20  # updates before which flat maps and a large cross-entropy are those of random weights

# What is left of a weight that has flooded the maps.
REMEDY = 0.25


@dataclasses.dataclass(frozen=True)
class Mark:
    """Something that is wrong with an epoch.

    Attributes:
      name: what, in a word or two.
      why: the figures that tell.
      cure: what the user can do.
      sound: whether the model is as good as that of an epoch without a mark.
    """

    name: str
    why: str
    cure: str
    sound: bool = False


@dataclasses.dataclass(frozen=True)
class Watch:
    """What is watched of a stage at the end of every epoch; by default nothing.

    Attributes:
      marks: from the mean figures of an epoch and the steps of the next one, an empty range at the end.
      told: what the line of an epoch says of the figures.
      remedy: changes the variables that are not trained, of the last sound state, once after an unsound epoch.
    """

    marks: Callable[[Mapping[str, float], range], tuple[Mark, ...]] = lambda figures, ahead: ()
    told: Callable[[Mapping[str, float]], list[str]] = lambda figures: []
    remedy: Callable[[dict[Any, Any]], dict[Any, Any]] | None = None


def map_figures(foreground: Float[Array, "b h w"]) -> dict[str, Float[Array, ""]]:
    """Percentiles of the images' shares of foreground over the global batch, and of constant maps; in percent."""
    shares = of_all(100 * foreground.mean((1, 2)))
    constant = jnp.ptp(foreground.reshape(len(foreground), -1), axis=1) < FLAT
    figures = {f"foreground_{part}": jnp.percentile(shares, part) for part in (10, 50, 90)}
    return figures | {"constant_maps": jax.lax.pmean(100 * constant.mean(), DATA_AXIS)}


def marks_of(figures: Mapping[str, float], step: int, *, decisive: bool, cure: str) -> tuple[Mark, ...]:
    """The marks of an epoch.

    Args:
      figures: `map_figures`, and "seeds", where that term counts; means over the epoch.
      step: updates done.
      decisive: whether the seeds must be learnt by now.
      cure: of a flood or a collapse.
    """
    share, constant, seeds = figures["foreground_50"], figures["constant_maps"], figures.get("seeds", 0.0)
    why = f"median foreground {share:.0f} %, constant maps {constant:.0f} %, cross-entropy of the seeds {seeds:.2f}"
    settled = step >= SETTLED
    flat = settled and constant > MOSTLY
    if share > FLOODED or (settled and seeds > CONTRADICTED) or (flat and share > MOSTLY):
        return (Mark("flooded", why, cure),)
    if share < EMPTY or flat:
        return (Mark("collapsed", why, cure),)
    if decisive and seeds > AT_CHANCE:
        told = "the CAM cannot tell object from background; take another cam.name, or a better classifier"
        return (Mark("seeds at chance", why, told, sound=True),)
    return ()


def told_of(figures: Mapping[str, float], terms: list[str]) -> list[str]:
    """The figures in the line of an epoch."""
    shares = "/".join(f"{figures[f'foreground_{part}']:.0f}" for part in (10, 50, 90))
    values = [f"{name} {figures[name]:.3g}" for name in terms]
    return [*values, f"foreground {shares} %", f"constant maps {figures['constant_maps']:.0f} %"]
