"""The contract of every encoder: normalised images in, all its stages out, from high to low resolution.

The last stage is what the classifier's head pools; the decoder takes all of them (F-CAM, Fig. 2).
"""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from fcam_jax.errors import InputError
from fcam_jax.models.pretrained import Pretrained
from fcam_jax.models.weight_names import Names, of_torch
from fcam_jax.runtime.remat import kept

# Mean and deviation of ImageNet's RGB in [0, 255], as PyTorch's pretrained networks expect them.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

FINAL_STRIDES = (8, 16, 32)
_SIDE = 128  # of the image with which the places are looked up; every encoder takes it

Map = Float[Array, "b _ _ _"]
Stage = Any  # a `Map`, or arrays with one among them that `Encoder.map_of` knows; the first axis is the image's
Keys = Key[Array, " b"] | None

# Called with the name of a place within an encoder and the map there; the encoder goes on with what it returns.
At = Callable[[str, Map], Map]


@dataclasses.dataclass(frozen=True)
class Asking:
    """An `At` for whose sake the encoder computes what it has no need of: the attention matrices of some blocks.

    A transformer calls ``at("blocks.I.attn", matrices)`` for the places that are asked for, and for no other: a fused
    kernel makes no matrices. They are [b, heads, queries, keys], float32, after the softmax.
    """

    at: At
    places: Collection[str]

    def __call__(self, place: str, x: Map) -> Map:
        """What `at` makes of the map."""
        return self.at(place, x)


def asked_for(at: At, place: str) -> bool:
    """Whether what is computed on request alone is wanted at a place."""
    return isinstance(at, Asking) and place in at.places


def unchanged(place: str, x: Map) -> Map:
    """The map as it is, wherever it is."""
    return x


class Strided(NamedTuple):
    """A layer that has a stride or is not symmetric, as far as the places of a map's cells hang on it."""

    kernel: int  # with its dilation: how many values it spans
    stride: int
    padding: int | None  # zeros before the first value; None for TensorFlow's "SAME", which hang on the side
    shift: float = 0.0  # how far after its middle the weight of a trained kernel lies, in cells of its input


class Grid(NamedTuple):
    """Where the cells of a map lie in the image, down and across, in shares of its height and width.

    The centre of cell i is at `first + i step`; that of pixel x of n at `(x + 1/2) / n`.
    """

    first: tuple[float, float]
    step: tuple[float, float]

    def centers(self, cells: tuple[int, int]) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, " w"]]:
        """The places of the centres of rows and columns of so many cells."""
        rows, columns = (
            first + step * np.arange(count) for first, step, count in zip(self.first, self.step, cells, strict=True)
        )
        return rows, columns

    def within(self, other: "Grid", cells: tuple[int, int]) -> "Grid":
        """The same places in shares of a map with so many cells on another grid, which is looked at as an image."""
        first, step = [], []
        for axis, count in enumerate(cells):
            extent = other.step[axis] * count
            first.append((self.first[axis] - other.first[axis]) / extent + 0.5 / count)
            step.append(self.step[axis] / extent)
        return Grid((first[0], first[1]), (step[0], step[1]))


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer or block whose map others may read or change."""

    name: str  # what `At` is told
    stage: int  # position of the stage that it belongs to
    channels: int  # of the map there


class BlockAttention(NamedTuple):
    """The self-attention of one block on a batch of images, n tokens each."""

    matrices: Float[Array, "b heads n n"]  # shares of all keys in each query, after the softmax
    scores: Callable[[Float[Array, "b heads n n"]], Float[Array, "b k"]]  # if the block, with such ones, were the last
    read: Float[Array, " n"]  # share of each token in what the head sees: of the class token 1, of n patches 1/n each


class Encoder(nnx.Module):
    """A chain of stages, each computed from the one before it and the first from the image.

    Every layer or block whose map others may read or change is a place with a name, such as ``"layer3.0"``. A
    constructor has the keywords `final_stride`, `dtype` and `rngs`; others have a default.

    Args:
      dilate: the layers behind a removed stride are dilated, so that the pretrained network is kept as it was.
    """

    channels: tuple[int, ...]  # of the map of every stage
    strides: tuple[int, ...]  # side of the image over that of every stage's map, but for rounding
    strided: tuple[tuple[Strided, ...], ...] = ()  # of every stage, in their order; without any the grid is even
    mean: tuple[float, float, float] = IMAGENET_MEAN  # what is subtracted from RGB in [0, 255]
    std: tuple[float, float, float] = IMAGENET_STD  # what the difference is divided by
    new_layers: tuple[str, ...] = ()  # first names of the parameter paths that stage 1 trains at the new head's rate
    pretrained: ClassVar[tuple[Pretrained, ...]] = ()  # of several sizes: in `Sized`
    published_stride: ClassVar[int] = 32  # the final stride of the network whose weights are published
    weight_names: ClassVar[tuple[Names, ...]] = (of_torch("this program's weights"),)  # it is exported by the first
    head_names: ClassVar[Names | None] = None  # of the published classification layer, where it is not called "fc"
    for_methods: ClassVar[tuple[str, ...]] = ()  # keywords that ways to train stage 1 set, and that are no settings
    default_cam: ClassVar[str] = "cam"  # what a configuration takes where nobody names one
    cam_stage: int = -1  # position of the stage that CAMs explain where nobody names one
    attention_blocks: int = 0  # blocks of self-attention that `attentions` shows
    decoder_center: ClassVar[bool] = False  # the paper's decoder has two further convolutions on the top stage

    def stage(self, index: int, x: Stage, *, train: bool, rng: Keys = None, at: At = unchanged) -> Stage:
        """Stage `index` from all that the stage before it gave (from the image for stage 0)."""
        raise NotImplementedError

    def offset(self, side: int, stage: int = -1) -> float:
        """How far right of, or below, an even grid's the centres of the cells of a stage's map lie, in pixels.

        Cell i of an even grid has its centre at `(i + 1/2) s - 1/2`, s being the stage's stride. `side` is the image's.
        """
        stages = self.strided[: range(len(self.channels))[stage] + 1]
        return offset_of(side, itertools.chain.from_iterable(stages))

    def grid(self, stage: int, size: tuple[int, int]) -> Grid:
        """Where the cells of a stage's map lie in an image of a height and width."""
        stride = self.strides[stage]
        rows, columns = ((stride / 2 + self.offset(side, stage)) / side for side in size)
        return Grid((rows, columns), (stride / size[0], stride / size[1]))

    def map_of(self, stage: Stage) -> Map:
        """The map of a stage, for heads, decoders and CAMs."""
        return stage

    def for_head(self, stage: Stage) -> Map:
        """What the classifier's head sees of the top stage; a class token is a map of one cell."""
        return self.before_head(self.map_of(stage))

    def before_head(self, features: Map) -> Map:
        """The map of the top stage as a head takes its mean, and a CAM its weighted sum."""
        return features

    def with_map(self, stage: Stage, features: Map) -> Stage:
        """The stage with another map, from which the rest of the network can be resumed."""
        return features

    def resized(self, name: str, array: np.ndarray) -> np.ndarray:
        """A tensor of a weight file in our layout; brought to our size where its own is of other images' sides."""
        return array

    def attentions(
        self, images: Float[Array, "b h w 3"], head: Callable[[Map], Float[Array, "b k"]]
    ) -> Iterator[BlockAttention]:
        """Every block of a transformer in turn, in inference mode, from normalised images; memory is that of one."""
        raise NotImplementedError(f"{type(self).__name__} has no self-attention")

    def keys(self, stages: tuple[Stage, ...]) -> Map:
        """The patches' keys in a transformer's last block, all heads side by side, from its stages."""
        raise NotImplementedError(f"{type(self).__name__} has no self-attention")

    def places(self) -> tuple[Place, ...]:
        """All places in the order in which their maps are computed.

        Nothing is computed: the stages are followed with shapes alone, so the encoder may be abstract.
        """
        structure, variables = nnx.split(self)
        found: list[Place] = []

        def follow(variables: Any, x: Stage) -> None:
            encoder = nnx.merge(structure, variables)
            for index in range(len(self.channels)):

                def at(name: str, x: Array, stage: int = index) -> Array:
                    found.append(Place(name, stage, x.shape[-1]))
                    return x

                x = encoder.stage(index, x, train=False, at=at)

        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
        jax.eval_shape(follow, shapes, jax.ShapeDtypeStruct((1, _SIDE, _SIDE, 3), jnp.float32))
        return tuple(found)

    def __call__(
        self, images: Float[Array, "b h w 3"], *, train: bool, rng: Keys = None, at: At = unchanged
    ) -> tuple[Stage, ...]:
        """All stages, from high to low resolution.

        Args:
          images: normalised RGB, of any height and width.
          train: BatchNorm takes the batch's statistics and updates the running ones, dropout drops.
          rng: a key for every image; only networks with dropout use it, and only in training.
          at: reads or changes the maps at the encoder's places.

        Raises:
          InputError: the images are so small that a stage would be empty.
        """
        stages: list[Stage] = []
        for index in range(len(self.channels)):
            stage = self.stage(index, stages[-1] if stages else images, train=train, rng=rng, at=at)
            stages.append(jax.tree.map(kept, stage))
        if 0 in self.map_of(stages[-1]).shape:
            height, width = images.shape[1:3]
            raise InputError(f"images of {height}x{width} pixels are too small for {type(self).__name__}")
        return tuple(stages)


def strides_up_to(final_stride: int) -> tuple[int, ...]:
    """Strides of the five stages of a classifier whose last subsamplings are removed, so that its top map is larger.

    The final one is the side of the image over that of the top map: 8 (28x28 maps at 224 pixels), 16 or 32.

    Raises:
      InputError: it is another number.
    """
    if final_stride not in FINAL_STRIDES:
        raise InputError(f"final_stride is {final_stride!r}; it must be 8, 16 or 32")
    return tuple(min(stride, final_stride) for stride in (2, 4, 8, 16, 32))


class Subsampling(NamedTuple):
    """How a stage of a network of five is sampled: by the layer that carries its stride, and by those after it."""

    stride: int  # of that layer: 2, or 1 where its subsampling is removed
    dilation: int  # of that layer
    inner: int  # dilation of the layers after it


def subsamplings(final_stride: int, dilate: bool = False) -> tuple[Subsampling, ...]:
    """Those of the five stages of a classifier whose last subsamplings are removed (`strides_up_to`).

    With `dilate` the layers behind a removed stride are dilated, so that the network computes what it did before, at
    more places: of the larger top map every 2nd (4th) value is one of the strided network's (a trous). Without it all
    layers stay as they are and see less of the image.

    Raises:
      InputError: `final_stride` is not 8, 16 or 32.

    Reference: Yu, Koltun and Funkhouser, Dilated residual networks, CVPR 2017, Sec. 2.
    """
    found, dilation = [], 1
    for stride in (2, 4, 8, 16, 32):
        if stride in strides_up_to(final_stride):
            found.append(Subsampling(2, 1, 1))
        else:
            inner = 2 * dilation if dilate else 1
            found.append(Subsampling(1, dilation, inner))
            dilation = inner
    return tuple(found)


def offset_of(side: int, layers: Iterable[Strided]) -> float:
    """`Encoder.offset` of a network whose layers these are; all others must be symmetric.

    A layer of kernel k, shift d, padding p and stride t puts the centre of its cell i over `(k - 1) / 2 + d - p + t i`
    of its input.
    """
    first, scale = 0.0, 1  # the centre of cell 0, and the distance of the centres, in pixels
    for kernel, stride, padding, shift in layers:
        if padding is None:
            padding = max((-(-side // stride) - 1) * stride + kernel - side, 0) // 2
        first += scale * ((kernel - 1) / 2 + shift - padding)
        scale, side = scale * stride, -(-side // stride)
    return first - (scale - 1) / 2
