"""Targets with a place: a class in a region of a segmentation, and an object of a detector."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from fcam_jax.cams.targets import Wanted, described
from fcam_jax.data.arrays import array_of
from fcam_jax.errors import InputError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Segmentation(Wanted):
    """The scores of a class, summed up over a region of the output; the output is a map of class scores.

    $$ s = \\sum_{p \\in M} z_{p y} $$

    Attributes:
      labels: y, [b].
      masks: M, [b, h, w], True inside, of the size of the network's output (volumes: [b, z, y, x]); None: where the
        class has the highest score in the unchanged image.

    Reference: Vinogradova et al., Towards interpretable semantic segmentation via gradient-weighted class activation
      mapping, AAAI 2020, Eq. 2.
    """

    labels: Any
    masks: Any = None
    axes: ClassVar[Mapping[str, int]] = {"labels": 0, "masks": 2}
    takes = "maps of class scores [b, h, w, k]"

    def __call__(self, output: Any) -> Float[Array, ""]:
        return jnp.where(self.masks, output[..., self.labels], 0).sum()

    def check(self, outputs: Any) -> None:
        classes = self._scores(outputs, 5 if len(getattr(outputs, "shape", ())) == 5 else 4)
        self._in_range("labels", classes)
        if self.masks is not None and self.masks.shape != outputs.shape[:-1]:
            raise InputError(f"Segmentation: masks are {self.masks.shape}, and the outputs {outputs.shape[:-1]}")

    def completed(self, outputs: Any) -> Wanted:
        """With the regions that the network gives the classes, where there are no masks."""
        if self.masks is not None:
            return self
        labels = self.labels.reshape(-1, *[1] * (outputs.ndim - 2))
        return dataclasses.replace(self, masks=outputs.argmax(axis=-1) == labels)

    def mirrored(self, width: int) -> Wanted:
        return self if self.masks is None else dataclasses.replace(self, masks=jnp.flip(self.masks, axis=-1))

    def _one_each(self, name: str, values: Any, count: int) -> Array:
        volumes = name == "masks" and np.ndim(values) == 4
        if volumes and len(values) == count:
            return jnp.asarray(array_of(values, "Segmentation: masks"))
        return super()._one_each(name, values, count)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Detection(Wanted):
    """An object that a detector finds: its score and how well it fits a box.

    The output is boxes [b, n, 4] and their class scores [b, n, k], as a pair or by the names "boxes" and "scores".

    $$ s = z_{jy} + \\mathrm{IoU}(b_j, b), \\qquad j = \\arg\\max_i \\mathrm{IoU}(b_i, b), \\quad
       0 \\text{ where the IoU is below } \\texttt{least} $$

    Attributes:
      boxes: b, [b, 4], corners x0, y0, x1, y1 in the units of the network's; pixels, where maps are mirrored.
      labels: y, [b].
      least: IoU from which a found box is that of the object.
    """

    boxes: Any
    labels: Any
    least: float = dataclasses.field(default=0.5, metadata={"static": True})
    axes: ClassVar[Mapping[str, int]] = {"boxes": 1, "labels": 0}
    takes = "boxes [b, n, 4] and their class scores [b, n, k]"

    def __call__(self, output: Any) -> Float[Array, ""]:
        boxes, scores = _boxes(output)
        overlaps = jax.vmap(lambda box: _overlap(box, self.boxes))(boxes)
        best = jax.lax.stop_gradient(overlaps).argmax()
        found = scores[best, self.labels] + overlaps[best]
        fits = jax.lax.stop_gradient(overlaps[best]) >= self.least
        return jnp.where(fits, found, 0 * found)  # of NaN NaN, by which a layer on the way is known

    def check(self, outputs: Any) -> None:
        boxes, scores = _boxes(outputs)
        fit = len(getattr(boxes, "shape", ())) == len(getattr(scores, "shape", ())) == 3
        if not fit or boxes.shape[2] != 4 or boxes.shape[:2] != scores.shape[:2]:
            raise InputError(f"Detection reads {self.takes}, and the network gives {described(outputs)}")
        if self.boxes.shape[-1] != 4:
            raise InputError(f"Detection: boxes are {self.boxes.shape}; a box is x0, y0, x1, y1")
        self._in_range("labels", scores.shape[-1])

    def mirrored(self, width: int) -> Wanted:
        x0, y0, x1, y1 = jnp.moveaxis(self.boxes, -1, 0)
        return dataclasses.replace(self, boxes=jnp.stack([width - x1, y0, width - x0, y1], axis=-1))


def _boxes(output: Any) -> tuple[Any, Any]:
    """Boxes and scores of a detector's output; nothing where it has none."""
    if isinstance(output, Mapping):
        return output.get("boxes"), output.get("scores")
    return tuple(output) if isinstance(output, list | tuple) and len(output) == 2 else (None, None)


def _overlap(one: Num[Array, " 4"], other: Num[Array, " 4"]) -> Float[Array, ""]:
    """Intersection over union of two boxes."""
    sides = jnp.minimum(one[2:], other[2:]) - jnp.maximum(one[:2], other[:2])
    inside = jnp.maximum(sides, 0).prod()
    union = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - inside
    return inside / jnp.where(union == 0, 1, union)
