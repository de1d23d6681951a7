"""DANet: several maps for each class at three levels of a hierarchy of classes, which are pushed apart."""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.contract import Cam, Target
from fcam_jax.cams.score_maps import resample, score_map
from fcam_jax.component import at_least, known
from fcam_jax.data.cub_families import CUB_FAMILIES, CUB_ORDERS
from fcam_jax.errors import InputError
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import ByCam, ClassifierTraining, Outcome
from fcam_jax.methods.contract import batch_key, image_keys
from fcam_jax.methods.places import last_places, needs_map, of_encoder
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder, Grid, Place
from fcam_jax.models.heads import Head
from fcam_jax.models.inception import InceptionV3
from fcam_jax.models.layers import conv, resize_align_corners
from fcam_jax.models.vgg import VGG16
from fcam_jax.types import DATA_AXIS, Batch, Localization

# Where the root and the parents of the classes are told, from low to high.
PLACES: Mapping[type[Encoder], tuple[str, ...]] = {
    VGG16: ("pool3", "pool4|conv4_3"),
    InceptionV3: ("pool2", "Mixed_5d"),
}
_WIDTHS: Mapping[type[Encoder], tuple[int, ...]] = {InceptionV3: (256, 384, 1024)}  # of root, parents, classes
_WIDEST = 1024
_HIERARCHIES: Mapping[str, tuple[Sequence[int], Sequence[int]]] = {"": ((), ()), "cub": (CUB_FAMILIES, CUB_ORDERS)}
_XAVIER = jax.nn.initializers.xavier_uniform()

ClassMaps = Float[Array, "b _ _ m"]  # of one class of each image


class Level(nnx.Module):
    """{3x3 convolution to `width` channels, ReLU} twice and a 1x1 convolution to `maps` maps of each of some groups."""

    def __init__(self, features: int, groups: int, *, width: int, maps: int, **of_layers: Any):
        self.maps = maps
        self.conv1 = conv(features, width, 3, bias=True, init=_XAVIER, **of_layers)
        self.conv2 = conv(width, width, 3, bias=True, init=_XAVIER, **of_layers)
        self.out = conv(width, groups * maps, 1, bias=True, init=_XAVIER, **of_layers | {"dtype": jnp.float32})

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b h w k m"]:
        """The maps of every group, float32."""
        found = self.out(nnx.relu(self.conv2(nnx.relu(self.conv1(features)))))
        return found.reshape(*found.shape[:3], -1, self.maps)


class DANetHead(Head):
    """The level of the classes, on the top stage, and beside it the coarser ones, root first, which training computes.

    Class scores are the means of the maps; the head's own map of a class is the mean over its maps of their ReLU.
    """

    def __init__(self, child: Level, coarser: Sequence[Level]):
        self.child, self.coarser = child, nnx.List(coarser)

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        return scores(self.child(features))

    def activation(self, features: Float[Array, "b h w c"], labels: Int[Array, " b"]) -> Float[Array, "b h w"]:
        return nnx.relu(of_groups(self.child(features), labels)).mean(axis=-1)


def scores(maps: Float[Array, "b h w k m"]) -> Float[Array, "b k"]:
    """The score of each group: the mean of its maps."""
    return maps.mean(axis=(1, 2, 4))


def of_groups(maps: Float[Array, "b h w k m"], groups: Int[Array, " b"]) -> Float[Array, "b h w m"]:
    """The maps of one group of each image."""
    return jnp.take_along_axis(maps, groups[:, None, None, None, None], axis=3)[:, :, :, 0]


def divergence(maps: Float[Array, "b h w n"]) -> Float[Array, ""]:
    """How alike the maps of an image are: 1 if they are the same, 0 if they share no position; of all devices.

    $$ L = \\frac{1}{B\\, n (n-1) / 2} \\sum_b \\Big| \\sum_{i<j} c_{ij} \\Big|, \\qquad
       c_{ij} = \\frac{a_i \\cdot a_j}{\\sqrt{|a_i|^2 |a_j|^2 + 10^{-8}}} $$

    The absolute value is that of an image's sum, so that cosines of both signs cancel, as in the authors' program.

    Reference: Xue et al., DANet, ICCV 2019, section 3.2; the released program.
    """
    products = jnp.einsum("bhwi,bhwj->bij", maps, maps, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.diagonal(products, axis1=1, axis2=2)
    cosines = products / jnp.sqrt(squares[:, :, None] * squares[:, None] + 1e-8)
    pairs = np.triu_indices(maps.shape[-1], 1)
    sums = cosines[:, pairs[0], pairs[1]].sum(axis=1)
    return jax.lax.pmean(jnp.abs(sums).mean(), DATA_AXIS) / max(len(pairs[0]), 1)


def fused(maps: Sequence[ClassMaps]) -> Float[Array, "b h w"]:
    """The sum over levels, root first, of the mean of the ReLU of a group's maps, at the cells of the root's.

    $$ M = \\sum_l \\mathrm{up}\\Big( \\frac1m \\sum_i \\mathrm{ReLU}(a_{li}) \\Big) $$

    Reference: Xue et al., DANet, ICCV 2019; bilinear with aligned corners as in the released program.
    """
    means = [nnx.relu(one).mean(axis=-1, keepdims=True) for one in maps]
    size = means[0].shape[1], means[0].shape[2]
    return jnp.stack([resize_align_corners(one, size) for one in means]).sum(axis=0)[..., 0]


def drawn(maps: Sequence[ClassMaps], key: Key[Array, ""]) -> Float[Array, "b h w _"]:
    """Half of the maps of all levels, at the cells of the first, the same ones of every image."""
    size = maps[0].shape[1], maps[0].shape[2]
    together = jnp.concatenate([resize_align_corners(one, size) for one in maps], axis=-1)
    count = together.shape[-1]
    return together[..., jax.random.permutation(key, count)[: max(count // 2, 1)]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DANet(ClassifierTraining):
    """Cross-entropies of the classes, their parents and the parents' parents, and unlike maps of what is right.

    $$ L = \\tfrac12 (\\mathrm{CE}_{root} + \\mathrm{CE}_{parent} + \\mathrm{CE}_{child}) + \\alpha L_{cos} $$

    The cosine term is of half of the maps of the right class, its parent and its root, drawn once a step for all
    images. Without a hierarchy there are the classes alone, in both terms and in the map. Biases learn at twice the
    rate of the other weights of a layer.

    Attributes:
      hierarchy: "cub": families and orders of CUB's species, its first classes in their order; empty: none, or
        `parents`.
      parents: the number of the parent of every class, from 0 on.
      roots: likewise that of the root; all classes of a parent have the same.
      maps: of each class, m; 8 of VGG16 and 4 of InceptionV3 in the authors' program.
      divergence: weight alpha of the cosine term.

    Raises:
      InputError: a setting is outside its range; the hierarchy is not of as many classes as the data, or a parent has
        two roots; the encoder has no map for the head.

    Differs from: the released test program, which adds the maps of the parent and root that it predicts by themselves;
      here they are those of the class.

    Reference: Xue et al., DANet: divergent activation for weakly supervised object localization, ICCV 2019; the
      released program.
    """

    title = "DANet"
    by_cam = False
    seed_stage = -1
    encoder_keywords: ClassVar[Mapping[str, Any]] = {"top": ()}  # the levels are in the place of new layers
    bias_factor = 2.0
    hierarchy: str = ""
    parents: tuple[int, ...] = ()
    roots: tuple[int, ...] = ()
    maps: int = 8
    divergence: float = 0.01

    def __post_init__(self) -> None:
        known(self, hierarchy=_HIERARCHIES)
        at_least(self, maps=1, divergence=0)
        whole = all(isinstance(one, numbers.Integral) and one >= 0 for one in (*self.parents, *self.roots))
        if len(self.parents) != len(self.roots) or not whole:
            given = f"parents has {len(self.parents)} and roots {len(self.roots)} entries"
            raise InputError(f"{given}; each needs a whole number a class, from 0 on")
        root_of = dict(zip(self.parents, self.roots, strict=True))
        if wrong := [of for of, root in zip(self.parents, self.roots, strict=True) if root != root_of[of]]:
            raise InputError(f"roots has several for the parent {wrong[0]}; give it one")

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> DANetHead:
        needs_map(encoder)
        given = self.groups()
        if given and len(given[0]) < num_classes:
            have = f"has parents of {len(given[0])} classes, and the data has {num_classes}"
            raise InputError(f"classifier.danet {have}; give parents and roots, or no hierarchy")
        inputs = [place.channels for place in places(encoder)[: len(given)]] + [encoder.channels[-1]]
        sizes = [1 + max(one[:num_classes]) for one in given] + [num_classes]
        if given and min(sizes) < 2:
            raise InputError("classifier.danet.roots is the same of all classes; give two or more, or no hierarchy")
        widths = of_encoder(_WIDTHS, encoder) or [min(2 * channels, _WIDEST) for channels in inputs]
        levels = [
            Level(channels, size, width=width, maps=self.maps, **of_layers)
            for channels, size, width in zip(inputs, sizes, widths[-len(inputs) :], strict=True)
        ]
        return DANetHead(levels[-1], levels[:-1])

    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Root and parent of every class; nothing without a hierarchy."""
        parents, roots = (self.parents, self.roots) if self.parents else _HIERARCHIES[self.hierarchy]
        return (tuple(roots), tuple(parents)) if parents else ()

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """The loss over the global batch; class scores; its terms "root", "parent", "child" and "divergence"."""
        seen, labels = dict[str, Array](), jnp.asarray(batch.labels)
        stages, _ = model(jnp.asarray(batch.images), train=True, rng=image_keys(rng, batch), at=seen.setdefault)
        levels = self._levels(model, seen, stages, labels)
        terms = {
            name: jax.lax.pmean(cross_entropy(scores(maps), groups).mean(), DATA_AXIS)
            for name, (maps, groups) in zip(("root", "parent", "child")[-len(levels) :], levels, strict=True)
        }
        terms["divergence"] = divergence(drawn([of_groups(*level) for level in levels], batch_key(rng, batch)))
        total = sum(terms[name] for name in terms if name != "divergence") / 2 + self.divergence * terms["divergence"]
        return total, scores(levels[-1][0]), terms

    def localize(self, model: Classifier, batch: Batch, by_cam: ByCam) -> Localization:
        """Fused maps of the class, its parent and its root, scaled to [0, 1] and enlarged bilinearly."""
        images, seen = jnp.asarray(batch.images), dict[str, Array]()
        stages, logits = model(images, train=False, at=seen.setdefault)
        size = images.shape[1], images.shape[2]
        maps, grid = self._fused(model, seen, stages, jnp.asarray(batch.labels), size)
        return Localization(score_map(maps, size, "fcam", grid), logits)

    def seed_maps(self, target: Target, cam: Cam) -> Float[Array, "b _ _"]:
        network, seen = target.network, dict[str, Array]()
        assert isinstance(network, Classifier)
        stages = network.stages(target.inputs, at=seen.setdefault)
        size = target.inputs.shape[1], target.inputs.shape[2]
        maps, grid = self._fused(network, seen, stages, target.labels, size)
        top = network.map_of(stages[-1])
        return resample(maps, (top.shape[1], top.shape[2]), grid, network.grid(-1, size))

    def _levels(
        self, model: Classifier, seen: Mapping[str, Array], stages: Sequence[Any], labels: Array
    ) -> list[tuple[Array, Array]]:
        """The maps of all groups of each level, root first, and the group of each image."""
        assert isinstance(model.head, DANetHead)
        below = zip(model.head.coarser, places(model.encoder), self.groups(), strict=False)
        levels = [(level(seen[place.name]), jnp.asarray(of, jnp.int32)[labels]) for level, place, of in below]
        return [*levels, (model.head.child(model.encoder.for_head(stages[-1])), labels)]

    def _fused(
        self, model: Classifier, seen: Mapping[str, Array], stages: Sequence[Any], labels: Array, size: tuple[int, int]
    ) -> tuple[Float[Array, "b h w"], Grid]:
        """The fused maps and where their cells lie."""
        levels = self._levels(model, seen, stages, labels)
        first = places(model.encoder)[0].stage if len(levels) > 1 else -1
        return fused([of_groups(*level) for level in levels]), model.grid(first, size)


def places(encoder: Encoder) -> tuple[Place, ...]:
    """The places that root and parents read."""
    return last_places(encoder, PLACES, 3)[:2]
