"""The classifier of stage 1: raw images in, the encoder's stages and class scores out."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Num

from fcam_jax.errors import InputError
from fcam_jax.models.constants import Watch, watched
from fcam_jax.models.encoder import At, BlockAttention, Encoder, Grid, Keys, Map, Stage, unchanged
from fcam_jax.models.heads import Head

Images = Num[Array | np.ndarray, "b h w 3"]  # RGB in [0, 255]


class Classifier(nnx.Module):
    """An encoder and the head that scores its top stage."""

    def __init__(self, encoder: Encoder, head: Head):
        self.encoder = encoder
        self.head = head

    def normalize(self, images: Images) -> Float[Array, "b h w 3"]:
        """What the encoder takes, from RGB in [0, 255]."""
        mean, std = (jnp.asarray(values, jnp.float32) for values in (self.encoder.mean, self.encoder.std))
        return (jnp.asarray(images, jnp.float32) - mean) / std

    def __call__(
        self, images: Images, *, train: bool, rng: Keys = None, at: At = unchanged
    ) -> tuple[tuple[Stage, ...], Float[Array, "b k"]]:
        """The encoder's stages from high to low resolution, and class scores before softmax.

        Args:
          images: RGB in [0, 255].
          train: BatchNorm takes the batch's statistics and updates the running ones.
          rng: a key for every image; needed to train an encoder with dropout (InceptionV3).
          at: reads or changes the maps at the encoder's places.

        Raises:
          InputError: images have another shape, lie in [0, 1], or below 0; in a compiled function that is not known.
        """
        check_images(images)
        stages = self.encoder(self.normalize(images), train=train, rng=rng, at=at)
        return stages, self.head(*self.read(stages))

    def read(self, stages: Sequence[Stage]) -> tuple[Map, ...]:
        """The maps of the stages that the head is called with: as `Encoder.for_head` has it of the top one."""
        top = len(self.encoder.channels) - 1
        places = [place % (top + 1) for place in self.head.reads]
        return tuple(self.encoder.for_head(stages[top]) if at == top else self.map_of(stages[at]) for at in places)

    def stages(self, inputs: Float[Array, "b h w 3"], *, at: At = unchanged) -> tuple[Stage, ...]:
        """The encoder's stages of normalised images from high to low resolution, in inference mode."""
        return self.encoder(inputs, train=False, at=at)

    def map_of(self, stage: Stage) -> Map:
        """The map of a stage."""
        return self.encoder.map_of(stage)

    def with_map(self, stage: Stage, features: Map) -> Stage:
        """The stage with another map, for `score`."""
        return self.encoder.with_map(stage, features)

    def grid(self, stage: int, size: tuple[int, int]) -> Grid:
        """Where the cells of a stage's map lie in images of a height and width."""
        return self.encoder.grid(stage, size)

    @property
    def cam_stage(self) -> int:
        """Position of the stage that CAMs explain where nobody names one."""
        return self.encoder.cam_stage

    @property
    def attention_blocks(self) -> int:
        """Number of blocks that `attentions` shows; 0 for an encoder without self-attention."""
        return self.encoder.attention_blocks

    def attentions(self, inputs: Float[Array, "b h w 3"]) -> Iterator[BlockAttention]:
        """Every block of a transformer in turn, in inference mode; raises a `NotImplementedError` for others."""
        return self.encoder.attentions(inputs, self.head)

    def keys(self, stages: tuple[Stage, ...]) -> Map:
        """The patches' keys in a transformer's last block; raises a `NotImplementedError` for others."""
        return self.encoder.keys(stages)

    def watched_output(self, inputs: Float[Array, "b h w 3"], watch: Watch) -> Float[Array, "b k"]:
        """Class scores of normalised images, with a call of `watch` for every layer that adds a constant."""
        copy = watched(self, watch)
        return copy.score(copy.stages(inputs)[-1], len(self.encoder.channels) - 1)

    def score(
        self, features: Stage, stage: int, *, train: bool = False, rng: Keys = None, at: At = unchanged
    ) -> Float[Array, "b k"]:
        """Class scores before softmax of the rest of the network after stage `stage`; keywords as of a call.

        Raises:
          InputError: the head sees other stages than the top one.
        """
        self._check_reads_top()
        for index in range(stage + 1, len(self.encoder.channels)):
            features = self.encoder.stage(index, features, train=train, rng=rng, at=at)
        return self.head(self.encoder.for_head(features))

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        """The head's own map of the given class of each image, from the map of the top stage; raises as `score`."""
        self._check_reads_top()
        return self.head.activation(self.encoder.before_head(features), labels)

    def _check_reads_top(self) -> None:
        if self.head.reads != (-1,):
            what = f"{type(self.head).__name__} sees other stages than the top one, by which no CAM explains it"
            raise InputError(f"{what}; look at the method's own map")


def check_images(images: Any) -> None:
    """Refuse what is no batch of RGB in [0, 255]; its values are looked at where they are known."""
    if not isinstance(images, jax.Array | np.ndarray):
        raise InputError(f"images is {type(images).__name__}; give an array (images, height, width, 3)")
    if images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(f"images have the shape {images.shape}; it must be (images, height, width, 3)")
    if isinstance(images, jax.core.Tracer) or not jnp.issubdtype(images.dtype, jnp.floating):
        return
    values = np.asarray(images)
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    if low < 0 or 0 < high <= 1:
        cure = "undo their normalisation" if low < 0 else "multiply them by 255"
        raise InputError(f"images lie in [{low:g}, {high:g}]; give RGB in [0, 255]: {cure}")
