"""A CAM at work on a batch: the network is run, its map made, fused and brought to the images' size.

What is compiled is compiled once for each CAM, its settings, and shape of images.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.channels import ChannelCAM, joined
from fcam_jax.cams.contract import ActivationMap, Network, Target, default_stage
from fcam_jax.cams.fusion import Fused, fuse, fused
from fcam_jax.cams.score_maps import score_map
from fcam_jax.cams.targets import ClassScore, Wanted
from fcam_jax.models.encoder import Grid
from fcam_jax.runtime.progress import progress_bar

Stages = tuple[str, ...] | tuple[int, ...]  # by name, or by position from fine to coarse
Run = Callable[..., Callable[..., Any]]


@dataclasses.dataclass(frozen=True)
class How:
    """A CAM, the stages that it is of, and how its maps are brought to the size of the images."""

    cam: ActivationMap
    stages: Stages
    size: tuple[int, ...]
    convention: str

    def fused(self, target: Target) -> Fused:
        """The fusion of its maps."""
        if self.stages and isinstance(self.stages[0], int):
            stages = tuple(map(int, self.stages))
            return Fused(self.cam, stages[:1] if self.cam.whole else stages)
        return fused(self.cam, tuple(map(str, self.stages)), len(target.stages), default_stage(target.network))


@functools.cache
def compiled(function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    """The compiled function; the same object for the same settings, so that nothing is compiled twice."""
    return jax.jit(functools.partial(function, *static))


def runner(network: Any) -> Run:
    """What compiles a function of a network; one that is no pytree runs operation by operation."""
    is_tree = not jax.tree_util.treedef_is_leaf(jax.tree.structure(network))
    return compiled if is_tree else functools.partial


def maps_of(run: Run, how: How, network: Network, images: Array, wanted: Any, keys: Array, groups: bool) -> Any:
    """Score maps, the network's output, and labels (None where no class is explained).

    Args:
      run: `compiled`, or `functools.partial` for networks that are no pytrees.
      how: what is computed.
      network: what is explained.
      images: as the network takes them.
      wanted: a `Wanted`, labels, or None for the predicted ones.
      keys: one for every image.
      groups: whether a CAM of a pass for each feature map is computed a group at a time, and counted.
    """
    if groups and isinstance(how.cam, ChannelCAM):
        return _in_groups(run, how, network, images, wanted, keys)
    return run(_at_once, how)(network, images, wanted, keys)


def seen(network: Network, images: Array, wanted: Any, keys: Array) -> tuple[Target, Any]:
    """The target at the last stage, and the network's output."""
    inputs = network.normalize(images)
    stages = network.stages(inputs)
    outputs = network.score(stages[-1], len(stages) - 1)
    whole = wanted if isinstance(wanted, Wanted) else ClassScore(wanted)
    return Target(network, inputs, stages, whole.completed(outputs), keys, len(stages) - 1), outputs


def _at_once(how: How, *given: Any) -> Any:
    target, outputs = seen(*given)
    chosen = how.fused(target)
    maps = score_map(chosen(target), how.size, how.convention, target.at(chosen.finest).grid)
    return maps, outputs, _labels(target)


def _in_groups(run: Run, how: How, network: Network, *given: Any) -> Any:
    """The same, a group of feature maps at a time, counted by a bar; `run` compiles a function with its settings."""
    found, outputs = run(seen)(network, *given)
    whole = dataclasses.replace(found, network=network)  # not a copy of it
    cam = how.cam
    assert isinstance(cam, ChannelCAM)
    targets = [whole.at(stage) for stage in how.fused(whole).stages]
    scores, combined = run(type(cam).scores, cam), run(type(cam).combined, cam)
    maps, total = [], sum(target.map.shape[-1] for target in targets)
    with progress_bar(f"{cam.title} of {len(whole.keys)} image(s)", total, "feature map") as bar:
        for target in targets:
            groups = []
            for channels in cam.groups(target):
                groups.append(jax.block_until_ready(scores(target, channels)))
                bar.update(len(channels))
            maps.append(target.unfolded(combined(target, joined(jnp.stack(groups)))))
    grids = tuple(target.grid for target in targets)
    return run(_sized, how, grids)(maps), outputs, _labels(whole)


def _sized(how: How, grids: tuple[Grid | None, ...], found: list[Array]) -> Float[Array, "b ..."]:
    return score_map(fuse(found, grids), how.size, how.convention, grids[0])


def _labels(target: Target) -> Any:
    return getattr(target.wanted, "labels", None)
