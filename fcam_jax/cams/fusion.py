"""One map out of those of several stages: where the object is from coarse ones, its details from fine ones."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.channels import ChannelCAM
from fcam_jax.cams.contract import ActivationMap, Target
from fcam_jax.cams.score_maps import resize_bilinear
from fcam_jax.errors import InputError
from fcam_jax.models.encoder import Grid

_GAIN = 2.0  # of the shallow maps' tanh


@dataclasses.dataclass(frozen=True)
class Fused:
    """The fusion of a CAM's maps of several stages; of a single one, its map as it is."""

    cam: ActivationMap
    stages: tuple[int, ...]  # their positions, from high to low resolution

    def __call__(self, target: Target) -> Float[Array, "b ..."]:
        """The map of the finest stage; of volumes [b, z, y, x]."""
        targets = [target.at(stage) for stage in self.stages]
        return fuse([one.unfolded(self.cam(one)) for one in targets], [one.grid for one in targets])

    @property
    def finest(self) -> int:
        """Position of the stage of the highest resolution."""
        return self.stages[0]

    def passes(self, channels: Sequence[int]) -> int:
        """Passes of the network that an image takes for its feature maps, of which every stage has so many."""
        cam = self.cam
        return sum(cam.passes(channels[stage]) for stage in self.stages) if isinstance(cam, ChannelCAM) else 0


def fused(cam: ActivationMap, stages: Sequence[str], count: int, default: int = -1) -> Fused:
    """A CAM of the stages named, "stage1" for the highest resolution and so on, or of the one at position `default`.

    There are `count` of them; -1 is the top one.

    Raises:
      InputError: there is no such stage, or the CAM is of another one alone.
    """
    names = [f"stage{number}" for number in range(1, count + 1)]
    for stage in stages:
        if stage not in names:
            raise InputError(f"stages hold {stage!r}; known: {', '.join(names)}")
        if cam.whole and stage != names[cam.finest]:
            raise InputError(f"stages hold {stage!r}; {cam.title} is {cam.whole}: it takes {names[cam.finest]} alone")
    chosen = tuple(sorted({names.index(stage) for stage in stages}))
    return Fused(cam, chosen or ((cam.finest if cam.whole else default) % count,))


def fuse(maps: list[Float[Array, "b ..."]], grids: Sequence[Grid | None] = ()) -> Float[Array, "b ..."]:
    """Element-wise maximum of maps from fine to coarse, at the cells of the finest; a single map stays as it is.

    `grids` say where the cells of each lie in the image; by default they are spread evenly.

    $$ C_p = \\max_s \\hat C_{sp}, \\qquad \\hat C_s = \\tanh(2\\, C_s / \\max C_s), \\quad
       C_s / \\max C_s \\text{ for the coarsest} $$

    A map that is nowhere positive, or holds a NaN, adds nothing.

    Differs from: programs that also take the tanh of the coarsest map.

    Reference: Jiang et al., LayerCAM, IEEE TIP 2021, on the fusion of layers.
    """
    if len(maps) == 1:
        return maps[0]
    *shallow, deepest = (_scaled(values) for values in maps)
    scaled = [*(jnp.tanh(_GAIN * values) for values in shallow), deepest]
    size, finest = maps[0].shape[1:], grids[0] if grids else None

    def enlarged(values: Array, grid: Grid | None) -> Array:
        return resize_bilinear(values, size, grid.within(finest, (size[0], size[1])) if grid and finest else None)

    return jnp.stack([*map(enlarged, scaled, grids or [None] * len(scaled))]).max(axis=0)


def _scaled(maps: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    highest = maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)
    positive = highest > 0
    return jnp.where(positive, maps / jnp.where(positive, highest, 1), 0)
