"""What a CAM explains: a number out of the network's output of each image, whose sensitivity makes the map.

A target is a dataclass that JAX knows as a tree; its arrays have the images' axis first, and what is given once is the
same for all images. Called with the output of one image, it gives the number. `as_target` takes short forms.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fcam_jax.data.arrays import array_of, known
from fcam_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A target; z is the network's output of one image, float32.

    A class of your own is a frozen dataclass under `jax.tree_util.register_dataclass`; or give a function of z.
    """

    axes: ClassVar[Mapping[str, int]] = {}  # of every array for one image, by the field's name
    takes: ClassVar[str] = ""  # the output that it reads, for messages

    def __call__(self, output: Any) -> Float[Array, ""]:
        """The number that is explained."""
        raise NotImplementedError

    def check(self, outputs: Any) -> None:
        """Raise an `InputError` where it cannot read a batch's outputs, of which the shapes are known."""

    def completed(self, outputs: Any) -> "Wanted":
        """What was left open, filled in by the network's outputs of the unchanged images."""
        return self

    def mirrored(self, width: int) -> "Wanted":
        """The same for images that are mirrored left to right."""
        return self

    def of_batch(self, outputs: Any) -> "Wanted":
        """With an entry for every image, given the shapes of the network's outputs.

        Raises:
          InputError: an array has another shape, or the network's outputs are not what it reads.
        """
        count = jax.tree.leaves(outputs)[0].shape[0]
        given = {name: getattr(self, name) for name in self.axes if getattr(self, name) is not None}
        found = {name: self._one_each(name, values, count) for name, values in given.items()}
        whole = dataclasses.replace(self, **found)
        whole.check(outputs)
        return whole

    def _one_each(self, name: str, values: Any, count: int) -> Array:
        array = jnp.asarray(array_of(values, f"{type(self).__name__}: {name}"))
        if array.ndim == self.axes[name]:
            return jnp.broadcast_to(array, (count, *array.shape))
        if array.ndim != self.axes[name] + 1 or len(array) != count:
            raise InputError(
                f"{type(self).__name__}: {name} has the shape {array.shape} for {count} images; "
                f"the first axis is the images', of {self.axes[name] + 1}"
            )
        return array

    def _scores(self, outputs: Any, axes: int = 2) -> int:
        """The number of classes of outputs that must have so many axes."""
        if not hasattr(outputs, "shape") or len(outputs.shape) != axes:
            raise InputError(f"{type(self).__name__} reads {self.takes}, and the network gives {described(outputs)}")
        return int(outputs.shape[-1])

    def _in_range(self, name: str, classes: int) -> None:
        labels = getattr(self, name)
        if labels is None:
            return
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            raise InputError(f"{type(self).__name__}: {name} are {labels.dtype}; they must be integers")
        if not known(labels):
            return
        values = np.asarray(labels)
        if (wrong := values[(values < 0) | (values >= classes)]).size:
            raise InputError(
                f"{name.removesuffix('s')} {wrong[0]} is outside of the network's {classes} classes, 0 to {classes - 1}"
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassScore(Wanted):
    """The score of a class before softmax, z_y. An array of labels is short for it.

    Attributes:
      labels: y, [b]; None: the class with the highest score.
    """

    labels: Any = None
    axes: ClassVar[Mapping[str, int]] = {"labels": 0}
    takes = "class scores [b, k]"

    def __call__(self, output: Any) -> Float[Array, ""]:
        return output[self.labels]

    def check(self, outputs: Any) -> None:
        self._in_range("labels", self._scores(outputs))

    def completed(self, outputs: Any) -> Wanted:
        """With the predicted classes where there are no labels."""
        return self if self.labels is not None else dataclasses.replace(self, labels=outputs.argmax(axis=-1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Probability(ClassScore):
    """The probability of a class, softmax(z)_y: it also rises where the scores of the others fall.

    Where it is close to 1, its gradient and so the maps vanish; a map in [0, 1] is scaled all the same.
    """

    def __call__(self, output: Any) -> Float[Array, ""]:
        return jax.nn.softmax(output)[self.labels]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Classes(Wanted):
    """Several classes at once: a weighted sum of their scores.

    $$ s = \\sum_j w_j z_{y_j} $$

    Attributes:
      labels: y, [b, n], of each image; or [n], the same for all.
      weights: w, [b, n] or [n]; all 1 by default. (1, -1) asks what tells a class from another.
    """

    labels: Any
    weights: Any = None
    axes: ClassVar[Mapping[str, int]] = {"labels": 1, "weights": 1}
    takes = "class scores [b, k]"

    def __call__(self, output: Any) -> Float[Array, ""]:
        return (output[self.labels] * (1 if self.weights is None else self.weights)).sum()

    def check(self, outputs: Any) -> None:
        self._in_range("labels", self._scores(outputs))
        if self.weights is not None and self.weights.shape != self.labels.shape:
            raise InputError(f"Classes: weights are {self.weights.shape} for labels {self.labels.shape}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Binary(Wanted):
    """The one score of a network that answers yes or no: z for yes, -z for no.

    Attributes:
      positive: [b], whether yes is explained, or no.
    """

    positive: Any = True
    axes: ClassVar[Mapping[str, int]] = {"positive": 0}
    takes = "one score an image, [b] or [b, 1]"

    def __call__(self, output: Any) -> Float[Array, ""]:
        return jnp.where(self.positive, output.reshape(()), -output.reshape(()))

    def check(self, outputs: Any) -> None:
        _one(self, outputs)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MultiLabel(Wanted):
    """The log-probability of a set of labels, of a network whose classes have a sigmoid each.

    $$ s = \\sum_{k:\\, t_k = 1} \\log \\sigma(z_k) + \\sum_{k:\\, t_k = 0} \\log \\sigma(-z_k) $$

    Attributes:
      present: t, [b, k]: 1 for a label that is there, 0 for one that is not, -1 for one that is not asked for.
    """

    present: Any
    axes: ClassVar[Mapping[str, int]] = {"present": 1}
    takes = "class scores [b, k]"

    def __call__(self, output: Any) -> Float[Array, ""]:
        signed = jnp.where(self.present > 0, output, -output)
        return jnp.where(self.present < 0, 0, jax.nn.log_sigmoid(signed)).sum()

    def check(self, outputs: Any) -> None:
        classes = self._scores(outputs)
        if self.present.shape[-1] != classes:
            raise InputError(f"MultiLabel: present has {self.present.shape[-1]} entries for {classes} classes")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Regression(Wanted):
    """A number that the network predicts, as it is; of several numbers, the one at a position.

    Attributes:
      index: [b], the position; None for networks that predict one number.
    """

    index: Any = None
    axes: ClassVar[Mapping[str, int]] = {"index": 0}
    takes = "numbers [b], [b, 1], or [b, n] with an index"

    def __call__(self, output: Any) -> Float[Array, ""]:
        return output.reshape(()) if self.index is None else output[self.index]

    def check(self, outputs: Any) -> None:
        if self.index is None:
            _one(self, outputs)
        else:
            self._in_range("index", self._scores(outputs))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Similarity(Wanted):
    """Cosine of the angle between the network's output and an embedding, such as that of another image or of a text.

    $$ s = \\frac{z^T e}{\\|z\\| \\|e\\|}, \\quad 0 \\text{ where one of them is } 0 $$

    Attributes:
      embedding: e, [b, d], or [d] for all images.
    """

    embedding: Any
    axes: ClassVar[Mapping[str, int]] = {"embedding": 1}
    takes = "embeddings [b, d]"

    def __call__(self, output: Any) -> Float[Array, ""]:
        squares = (output**2).sum() * (self.embedding**2).sum()
        return (output * self.embedding).sum() / jnp.sqrt(jnp.where(squares == 0, 1, squares))

    def check(self, outputs: Any) -> None:
        width = self._scores(outputs)
        if self.embedding.shape[-1] != width:
            raise InputError(f"Similarity: embedding has {self.embedding.shape[-1]} values, and the output {width}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Custom(Wanted):
    """Whatever a function makes of an image's output; a function that is given as a target is short for it.

    It is known by its identity: one that is defined anew for every call is compiled anew.
    """

    function: Callable[[Any], Any] = dataclasses.field(metadata={"static": True})

    def __call__(self, output: Any) -> Float[Array, ""]:
        return self.function(output)

    def check(self, outputs: Any) -> None:
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), outputs)
        found = jax.eval_shape(self.function, one)
        if getattr(found, "shape", None) != ():
            raise InputError(f"the function of the target gives {described(found)} for an image; it must be one number")


def as_target(given: Any) -> Wanted:
    """A target of one, a function, labels, or None, the predicted classes. Raises InputError: it is none of these."""
    if isinstance(given, Wanted):
        return given
    if given is None:
        return ClassScore()
    if callable(given):
        return Custom(given)
    if isinstance(given, list | tuple) and any(isinstance(one, Wanted) or callable(one) for one in given):
        raise InputError("targets is a list of targets; give one, with an entry for every image: ClassScore([3, 7])")
    return ClassScore(array_of(given, "targets"))


def described(outputs: Any) -> str:
    """The shapes of a network's output, for messages."""
    return str(jax.tree.map(lambda leaf: tuple(getattr(leaf, "shape", ())), outputs))


def _one(wanted: Wanted, outputs: Any) -> None:
    shape = getattr(outputs, "shape", ())
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise InputError(f"{type(wanted).__name__} reads {wanted.takes}, and the network gives {described(outputs)}")
