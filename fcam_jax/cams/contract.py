"""The contract of every CAM: what it may ask of a network, and what it is asked to explain.

A CAM is called with a `Target` and returns a map of the target's stage. Those of the registry are components.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from fcam_jax.cams.targets import ClassScore, Wanted
from fcam_jax.errors import InputError
from fcam_jax.models.encoder import BlockAttention, Grid

Images = Num[Array, "b y x 3"]
Features = Float[Array, "b h w c"]
Labels = Int[Array, " b"]
Keys = Key[Array, " b"]  # one for every image


@runtime_checkable
class Network(Protocol):
    """A classifier as CAMs see it, in inference mode: a chain of stages, cut at any of them."""

    def normalize(self, images: Images) -> Float[Array, "b y x _"]:
        """What the first stage takes, from RGB in [0, 255]."""

    def stages(self, inputs: Float[Array, "b y x _"]) -> tuple[Any, ...]:
        """All stages, from high to low resolution; each is a map [b, h, w, c] but for a `StageNetwork`."""

    def score(self, features: Any, stage: int) -> Float[Array, "b k"]:
        """Class scores before softmax of the rest of the network, given stage `stage` (from 0)."""


@runtime_checkable
class StageNetwork(Network, Protocol):
    """A network whose stages may be more than maps, such as a map and a class token."""

    def map_of(self, stage: Any) -> Features:
        """The map of a stage."""

    def with_map(self, stage: Any, features: Features) -> Any:
        """The stage with another map, for `score`."""


@runtime_checkable
class PlacedNetwork(Network, Protocol):
    """A network that knows where the cells of its maps lie; those of others are spread evenly over the image."""

    def grid(self, stage: int, size: tuple[int, int]) -> Grid:
        """Where the cells of a stage's map lie in images of a height and width."""


@runtime_checkable
class VolumeNetwork(Network, Protocol):
    """A network of volumes; its maps are [b, d h, w, c], with the layers of the depth one below the other."""

    def depth(self, stage: Any) -> int:
        """The number d of layers of a stage's map; 0 where it is one of an image."""


@runtime_checkable
class MapNetwork(Network, Protocol):
    """A network whose head has a map for every class; "cam" reads it."""

    def activation(self, features: Features, labels: Labels) -> Float[Array, "b h w"]:
        """The head's map of the given class of each image, from the map of the top stage."""


@runtime_checkable
class AttentionNetwork(Network, Protocol):
    """A transformer, whose blocks show their attention; the top map holds its last tokens, row by row."""

    attention_blocks: int  # their number; 0: it has none after all

    def attentions(self, inputs: Float[Array, "b y x _"]) -> Iterator[BlockAttention]:
        """Every block of normalised images in turn, from the first to the last."""


@runtime_checkable
class KeyNetwork(AttentionNetwork, Protocol):
    """A transformer that shows what its last block compares patches by."""

    def keys(self, stages: tuple[Any, ...]) -> Features:
        """The patches' keys in the last block, all heads side by side, from its stages."""


def default_stage(network: Any) -> int:
    """Position of the stage that explains where nobody names one: `cam_stage` of a network that has it, or the top one.

    It is another one than the top where the head does not see the top map, but a class token.
    """
    return int(getattr(network, "cam_stage", -1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Target:
    """What is to be explained: a number out of the output for each image, by the maps of one stage."""

    network: Network
    inputs: Float[Array, "b ..."]  # normalised images
    stages: tuple[Any, ...]  # all of these inputs; a forward pass that is done already is not repeated
    wanted: Any  # the number: the score of the class y of each image, of labels, or a `Wanted`
    keys: Keys  # for CAMs that draw
    stage: int = dataclasses.field(metadata={"static": True})  # position in `stages` of the one that explains

    @property
    def map(self) -> Float[Array, "b h w c"]:
        """The map of the stage, as the network has computed it."""
        stage = self.stages[self.stage]
        return self.network.map_of(stage) if isinstance(self.network, StageNetwork) else stage

    @property
    def features(self) -> Float[Array, "b h w c"]:
        """The activations A of the stage; float32, whatever the network computes in."""
        return self.map.astype(jnp.float32)

    @property
    def grid(self) -> Grid | None:
        """Where the cells of the stage's map lie in the images; None where the network does not know."""
        size = self.inputs.shape[1], self.inputs.shape[2]
        return self.network.grid(self.stage, size) if isinstance(self.network, PlacedNetwork) else None

    def unfolded(self, maps: Float[Array, "n h w"]) -> Float[Array, "n ..."]:
        """Maps at the cells of the stage as they lie in the image: of volumes [n, d, h, w]."""
        depth = self.network.depth(self.stages[self.stage]) if isinstance(self.network, VolumeNetwork) else 0
        return maps.reshape(len(maps), depth, -1, maps.shape[-1]) if depth else maps

    @property
    def labels(self) -> Labels:
        """Class y of each image. Raises InputError: what is explained is no class score."""
        if isinstance(self.wanted, Wanted) and type(self.wanted) is not ClassScore:
            raise InputError(f"this CAM explains class scores alone, and the target is {type(self.wanted).__name__}")
        return self.wanted.labels if isinstance(self.wanted, ClassScore) else self.wanted

    def explained(self, outputs: Any) -> Float[Array, " n"]:
        """The number that is wanted of outputs of the network: one for every image, or equally many side by side."""
        wanted = self.wanted if isinstance(self.wanted, Wanted) else ClassScore(self.wanted)
        outputs = jax.tree.map(_in_float32, outputs)
        count = jax.tree.leaves(outputs)[0].shape[0] // self.keys.shape[0]
        return jax.vmap(lambda one, output: one(output))(_repeated(wanted, count), outputs)

    def score(self, features: Float[Array, "n h w c"]) -> Float[Array, " n"]:
        """What is explained of each image, such as the score of its class, with other features in place of its map.

        There is one map for every image, or equally many side by side.
        """
        # The rest of the network gets its own dtype back and so does what it always does.
        resumed = features.astype(self.map.dtype)
        if isinstance(self.network, StageNetwork):
            stage = _repeated(self.stages[self.stage], features.shape[0] // self.keys.shape[0])
            resumed = self.network.with_map(stage, resumed)
        return self.explained(self.network.score(resumed, self.stage))

    def gradient(self) -> Float[Array, "b h w c"]:
        """Gradient of each image's score in the features: one backward pass for the whole batch.

        $$ g = \\partial\\, \\mathrm{logit}_y / \\partial A $$
        """
        return jax.grad(lambda features: self.score(features).sum())(self.features)

    def at(self, stage: int) -> "Target":
        """The same images and classes, explained by another stage."""
        return dataclasses.replace(self, stage=stage)

    def variations(self, inputs: Float[Array, "b n ..."]) -> "Target":
        """Each image replaced by n others, normalised, of which the same is wanted: b n images, side by side."""
        merged = inputs.reshape(-1, *inputs.shape[2:])
        wanted, keys = _repeated((self.wanted, self.keys), inputs.shape[1])
        return Target(self.network, merged, self.network.stages(merged), wanted, keys, self.stage)


def _in_float32(values: Array) -> Array:
    return values.astype(jnp.float32) if jnp.issubdtype(values.dtype, jnp.floating) else values


def _repeated(tree: Any, count: int) -> Any:
    """Every entry of the first axis so many times, side by side."""
    return tree if count == 1 else jax.tree.map(lambda leaf: jnp.repeat(leaf, count, axis=0), tree)


@runtime_checkable
class Cam(Protocol):
    """What makes a map of a target, at low resolution."""

    @property
    def finest(self) -> int:
        """Position of the stage whose cells the map has."""

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of each image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationMap:
    """A CAM: a component defines `title`, a call that returns the map of the target's stage, and settings as fields."""

    title: ClassVar[str]  # what tables call it
    finest: ClassVar[int] = -1  # as a `Cam` it is one of the top stage
    whole: ClassVar[str] = ""  # what it is the map of, where that is no stage which could be chosen

    def __new__(cls, model: Any = None, target_layers: Any = (), **settings: Any) -> Any:
        """The component; with a model, its `explainer.Explainer`, whose settings are given beside the CAM's."""
        if model is None:
            return super().__new__(cls)
        from fcam_jax.cams.explainer import explainer_of  # it is made of all that stands on this contract

        return explainer_of(cls, model, target_layers, settings)

    def check(self, network: Any) -> None:
        """Raise an `InputError` where a network cannot be explained by it; nothing is computed."""

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map of the target\'s stage."""
        raise NotImplementedError


def explain(network: Network, images: Images, stages: tuple[Any, ...], labels: Labels, keys: Keys) -> Target:
    """The target whose features are those of a network's `default_stage` of images, RGB in [0, 255]."""
    return Target(network, network.normalize(images), stages, labels, keys, default_stage(network) % len(stages))
