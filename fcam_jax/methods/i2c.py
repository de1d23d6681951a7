"""I2C: where two images of a class respond most, their features agree, and they agree with a memory of the class."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from fcam_jax.cams.score_maps import minmax
from fcam_jax.component import at_least, shares
from fcam_jax.data.pipeline import Order
from fcam_jax.data.source import Source
from fcam_jax.errors import InputError
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.acol import Branch
from fcam_jax.methods.classifier import ClassifierTraining, Outcome
from fcam_jax.methods.contract import image_keys, of_all
from fcam_jax.methods.places import needs_map
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.layers import dropout
from fcam_jax.runtime.random import named
from fcam_jax.types import DATA_AXIS, Batch

_DROPOUT = 0.5
_DECAY = 0.002  # of the rate at which a class's centre follows new ones, per visit
_EPSILON = 1e-6  # added to differences, so that a distance of 0 has a gradient

Features = Float[Array, "n s c"]  # of the seeds of some images
Pairs = Int[Array, " n"]


class Memory(nnx.Variable[jax.Array]):
    """What is kept of the classes; no gradient changes it."""


class ClassMemory(nnx.Module):
    """A centre of the features of every class, which moves ever less.

    $$ c_y \\leftarrow (1 - \\eta)\\, c_y + \\eta\\, \\bar f, \\quad \\eta = \\exp(-0.002\\, t_y), \\quad
       t_y \\leftarrow t_y + 1 $$

    With f the mean of what a step has of the class, and t the number of steps before that had any.

    Differs from: the released program, where of several pairs of a class in a step the last one alone counts.

    Reference: Zhang et al., Inter-image communication, ECCV 2020, section 3.3.
    """

    def __init__(self, classes: int, channels: int):
        self.centers = Memory(jnp.zeros((classes, channels), jnp.float32))
        self.visits = Memory(jnp.zeros((classes,), jnp.int32))

    def visit(self, features: Float[Array, "n c"], labels: Int[Array, " n"], counted: Bool[Array, " n"]) -> None:
        """Take in features of some classes, those that count, in any order."""
        of_class = jax.nn.one_hot(labels, len(self.visits[...])) * counted[:, None]
        count = of_class.sum(axis=0)
        sums = jnp.einsum("nk,nc->kc", of_class, features, precision=jax.lax.Precision.HIGHEST)
        means, rate = sums / jnp.maximum(count, 1)[:, None], jnp.exp(-_DECAY * self.visits[...])
        rate = jnp.where(count > 0, rate, 0)[:, None]
        self.centers.set_value(jax.lax.stop_gradient((1 - rate) * self.centers[...] + rate * means))
        self.visits.set_value(self.visits[...] + (count > 0))


class I2CHead(Branch):
    """A branch as of ACoL, with dropout before each of its three convolutions in training; and the class memory."""

    def __init__(self, features: int, num_classes: int, *, width: int, **of_layers: Any):
        super().__init__(features, num_classes, width=width, **of_layers)
        self.memory = ClassMemory(num_classes, features)

    def trained(
        self, features: Float[Array, "b h w c"], labels: Int[Array, " b"], keys: Key[Array, " b"]
    ) -> tuple[Float[Array, "b k"], Float[Array, "b h w"]]:
        """Class scores and the label's map, in training."""
        first, second, third = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
        for layer, drawn in ((self.conv1, first), (self.conv2, second)):
            features = nnx.relu(layer(dropout(features, _DROPOUT, drawn)))
        features = dropout(features, _DROPOUT, third)
        return self.top(features), self.top.activation(features, labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class I2C(ClassifierTraining):
    """Cross-entropy, the distance of two images of a class at their seeds, and that from the class's memory.

    $$ L = \\mathrm{CE} + \\lambda_s \\frac1{P S} \\sum_{(i, j)} \\sum_s |f_{is} - f_{js}|
         + \\lambda_g \\frac1P \\sum_{(i, j)} |c_y - \\bar f_{ij}| $$

    With P pairs of images of one class, f the encoder's features at S seeds of each, and their mean, before the step
    moves c. Images come in pairs of a class; they are paired by label and position in the split over the whole batch.

    Attributes:
      threshold: seeds lie above it in the label's map, scaled to [0, 1].
      seeds: of every image.
      raster: take the first places above the threshold, row by row, as the released program, in place of random ones.
      stochastic_weight: of the distance between images.
      global_weight: of that from the memory; the parser of the released program has .01 by default.
      width: channels of the head's convolutions.

    Raises:
      InputError: the head sees no map, or a batch is taken in parts, which would part the pairs.

    Differs from: the released program, which compares the first pair of a class with noise; here that counts as 0. It
      trains for a few epochs from a classifier of cross-entropy alone: both weights 0, then `model.init`.

    Reference: Zhang et al., Inter-image communication, ECCV 2020, section 3; released program.
    """

    title = "I2C"
    encoder_keywords: ClassVar[Mapping[str, Any]] = {"top": ()}  # the head is in the place of new layers
    bias_factor = 2.0
    threshold: float = 0.7
    seeds: int = 3
    raster: bool = False
    stochastic_weight: float = 0.008
    global_weight: float = 0.001
    width: int = 1024

    def __post_init__(self) -> None:
        shares(self, "threshold")
        if self.threshold == 1:
            raise InputError("threshold is 1; it must be below 1, or no place is a seed")
        at_least(self, seeds=1, stochastic_weight=0, global_weight=0, width=1)

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> I2CHead:
        needs_map(encoder)
        return I2CHead(encoder.channels[-1], num_classes, width=self.width, **of_layers)

    def order(self, records: Source, seed: int) -> Order:
        """In pairs of a class, drawn anew every epoch."""
        return paired_order(records.labels(), seed)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; class scores; its terms "ce", "stochastic" and "global"."""
        if batch.part is not None:
            raise InputError(
                "train.accumulate takes a batch in parts, and i2c compares the images of whole ones; set 1"
            )
        assert isinstance(model.head, I2CHead)
        labels = jnp.asarray(batch.labels)
        stages, _ = model(jnp.asarray(batch.images), train=True, rng=image_keys(rng, batch))
        top = model.encoder.for_head(stages[-1])
        of_dropout, of_seeds = (image_keys(named(rng, f"i2c.{purpose}"), batch) for purpose in ("dropout", "seeds"))
        logits, maps = model.head.trained(top, labels, of_dropout)
        places = seeds_of(maps, of_seeds, self.threshold, self.seeds, raster=self.raster)
        cells = top.reshape(len(top), -1, top.shape[-1]).astype(jnp.float32)
        features = jnp.take_along_axis(cells, places[..., None], axis=1)
        features, labels, index = map(of_all, (features, labels, jnp.asarray(batch.index)))
        stochastic, to_memory = consistency(features, labels, index, model.head.memory)
        terms = {
            "ce": jax.lax.pmean(cross_entropy(logits, jnp.asarray(batch.labels)).mean(), DATA_AXIS),
            "stochastic": stochastic,
            "global": to_memory,
        }
        loss = terms["ce"] + self.stochastic_weight * stochastic + self.global_weight * to_memory
        return loss, logits, terms


def seeds_of(
    maps: Float[Array, "b h w"], keys: Key[Array, " b"], threshold: float, count: int, *, raster: bool
) -> Int[Array, "b {count}"]:
    """Places of seeds, counted row by row: different ones above the threshold in a map that is scaled to [0, 1].

    They are random, or with `raster` the first. Where there are fewer they repeat; a constant map has the first place.

    Differs from: the released program takes the first ones, the paper random ones.

    Reference: Zhang et al., ECCV 2020, section 3.2.
    """
    above = minmax(maps).reshape(len(maps), -1) > threshold
    cells = above.shape[1]
    value = jax.vmap(lambda key: jax.random.uniform(key, (cells,)))(keys)
    ranked = jnp.where(above, 1 - jnp.arange(cells) / cells if raster else value, -1)
    _, best = jax.lax.top_k(ranked, min(count, cells))
    there = jnp.clip(above.sum(axis=1, keepdims=True), 1, best.shape[1])
    return jnp.take_along_axis(best, jnp.arange(count) % there, axis=1)


def consistency(
    features: Features, labels: Int[Array, " n"], index: Int[Array, " n"], memory: ClassMemory
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Both distances, means over the pairs of a whole batch, whose centres the memory then takes in."""
    order, partners, paired = pairs(labels, index)
    one, other, labels = features[order], features[partners], labels[order]
    count = jnp.maximum(paired.sum(), 1)
    apart = jnp.linalg.norm(one - other + _EPSILON, axis=-1).mean(axis=1)
    centers = (one + other).mean(axis=1) / 2
    known = paired & (memory.visits[...][labels] > 0)
    away = jnp.linalg.norm(jax.lax.stop_gradient(memory.centers[...])[labels] - centers + _EPSILON, axis=-1)
    memory.visit(centers, labels, paired)
    return jnp.where(paired, apart, 0).sum() / count, jnp.where(known, away, 0).sum() / count


def pairs(labels: Int[Array, " n"], index: Int[Array, " n"]) -> tuple[Pairs, Pairs, Bool[Array, " n"]]:
    """Positions of images, those of their partners, and whether the two are a pair of one class.

    In the order of label and index two neighbours each are a pair; so it does not matter in which order a batch is.
    """
    order = jnp.lexsort((index, labels))
    ordered = labels[order]
    place = jnp.arange(len(order))
    in_class = place - jnp.searchsorted(ordered, ordered)
    paired = (in_class % 2 == 0) & (ordered == jnp.roll(ordered, -1)) & (place < len(order) - 1)
    return order, jnp.roll(order, -1), paired


def paired_order(labels: Int[np.ndarray, " n"], seed: int) -> Order:
    """An endless order of images where the places 2i and 2i + 1 hold two of a class.

    An epoch has every image once, and of a class of odd number one twice.

    Reference: Zhang et al., ECCV 2020, released program.
    """
    _, counts = np.unique(labels, return_counts=True)
    classes = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    length = int((counts + counts % 2).sum())

    @functools.lru_cache(maxsize=3)
    def epoch(number: int) -> Int[np.ndarray, " m"]:
        rng = np.random.default_rng((seed, number))
        mixed = (rng.permutation(members) for members in classes)
        rows = [np.resize(members, (-(-len(members) // 2), 2)) for members in mixed]
        return rng.permutation(np.concatenate(rows)).ravel()

    return lambda place: int(epoch(place // length)[place % length])
