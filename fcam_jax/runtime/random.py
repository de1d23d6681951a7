"""Named streams of random keys: what is drawn for one purpose is never drawn again for another.

A stream is a number that is folded into the key that it starts from; the numbers under one key stand together here and
are distinct. They are part of what a seed means: a stream that gets another number has other draws.
"""

import enum
import zlib

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Key


class OfStep(enum.IntEnum):
    """Beside the images of a step, whose own streams are their positions in the split, from 0 up."""

    AUGMENTATION = 2**32 - 1  # what images look like to the method
    BATCH = 2**32 - 2  # what is drawn once for a batch, or a part of one
    HIDDEN = 2**32 - 3  # which cells of images are hidden
    NAMED = 2**32 - 4  # those of `named`


class OfImage(enum.IntEnum):
    """Of an image in a step of F-CAM; a classifier's layers that draw have its key to themselves."""

    SEEDS = 0
    LANDMARKS = 1  # of the CRF
    CAM = 2
    DROPOUT = 3  # of the classifier, where it is trained, too


class OfWeights(enum.IntEnum):
    """Of the initial weights, from the key of the run."""

    ENCODER = 0
    HEAD = 1
    DECODER = 2


class OfRun(enum.IntEnum):
    """Of the trainings of a run, from its key; these numbers also seed the order of their images.

    They are those of `OfWeights` once more: initial weights and steps draw from unlike distributions.
    """

    CLASSIFIER = 0
    FCAM = 1


class _Count(nnx.RngStream):
    """Flax's stream and its keys. Flax counts in place, at which JAX walks through all that has been traced so far."""

    def __call__(self) -> Key[Array, ""]:
        count = self.count[...]
        self.count.set_value(count + 1)
        return jax.random.fold_in(self.key[...], count)


def weight_keys(key: Key[Array, ""] | int) -> nnx.Rngs:
    """The keys of initial weights: those of ``nnx.Rngs(key)``, whose cost in a trace grows with its square."""
    rngs = nnx.Rngs(key)
    rngs.default = _Count(key, tag="default")  # type: ignore[attr-defined]
    return rngs


Stream = OfStep | OfImage | OfWeights | OfRun


def stream(key: Key[Array, "*shape"], of: Stream) -> Key[Array, "*shape"]:
    """The key of a stream, or of each of several keys' one."""
    if key.ndim:
        return jax.vmap(lambda one: stream(one, of))(key)
    return jax.random.fold_in(key, int(of))


def order_seed(seed: int, of: OfRun) -> int:
    """The seed of a training's order of images and crops."""
    return int(np.random.SeedSequence((seed, int(of))).generate_state(1)[0] >> 1)


def named(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of a stream of a component's own, which the package does not know, from the key of a step.

    The name is any text that tells the component and the purpose from others, such as ``"mine.mask"``.
    """
    return jax.random.fold_in(stream(key, OfStep.NAMED), zlib.crc32(name.encode()))
