"""CCAM: what the likeliest classes see, against what the others see."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fcam_jax.cams.contract import Target
from fcam_jax.cams.gradients import CAM
from fcam_jax.component import at_least, known

_AT_ONCE = 32  # classes whose maps are made at once
_ROUNDING = 1e-5  # share of all terms that a sum of them may differ by


@dataclasses.dataclass(frozen=True, kw_only=True)
class CCAM(CAM):
    """Combinational class activation map: the head's maps of all classes, weighted by the ranks of their scores.

    $$ C = \\sum_{r=1}^{K} w_r\\, C_{c(r)}, \\qquad z_{c(1)} \\ge z_{c(2)} \\ge \\dots \\ge z_{c(K)} $$

    The class that is explained has no part in it. Where the classes' maps are all alike, so are background and object
    under weights that sum to 0, and the map is 0.

    Attributes:
      combination: w. "linear": K values from 1 to -1, evenly spaced; "quadratic": t squares of values from 1 to 0, then
        minus those of K - t values from 0 to -1, which is none where K - t is 1; "top": 1 for the first class;
        "top_bottom": and -1 for the last.
      split: t, how many of K classes have no negative weight in "quadratic"; 0: half of them, 100 of CUB's 200.

    Raises:
      InputError: a setting is outside its range; the network has no map of its own, or its head sees a class token.

    Differs from: the authors' program, which ranks the classes by another crop of the image.

    Reference: Yang et al., Combinational class activation maps, WACV 2020, section 3.2; weights as in their program.
    """

    title = "CCAM"
    combination: str = "quadratic"
    split: int = 0

    def __post_init__(self) -> None:
        known(self, combination=_COMBINATIONS)
        at_least(self, split=0)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        self.check(target.network)
        weights = self.by_class(target.network.score(target.stages[target.stage], target.stage))

        def weighted(number: Array) -> Array:
            labels = jnp.broadcast_to(number, (len(weights),))
            return weights[:, number, None, None] * CAM.__call__(self, dataclasses.replace(target, wanted=labels))

        maps = jax.lax.map(weighted, jnp.arange(weights.shape[1]), batch_size=_AT_ONCE)
        whole, terms = maps.sum(axis=0), jnp.abs(maps).sum(axis=0).max(axis=(1, 2), keepdims=True)
        # Maps that are all alike leave rounding errors, which are no map.
        spread = whole.max(axis=(1, 2), keepdims=True) - whole.min(axis=(1, 2), keepdims=True)
        return jnp.where(spread > _ROUNDING * terms, whole, 0)

    def by_class(self, scores: Float[Array, "b k"]) -> Float[Array, "b k"]:
        """The weight of each class's map, by the class's rank among the scores; of equal ones the first comes first."""
        ranks = jnp.argsort(jnp.argsort(-scores, axis=1), axis=1)
        return jnp.asarray(self.by_rank(scores.shape[1]), jnp.float32)[ranks]

    def by_rank(self, classes: int) -> Float[np.ndarray, " k"]:
        """The weights w, from the likeliest class on."""
        return _COMBINATIONS[self.combination](classes, min(self.split or (classes + 1) // 2, classes))


def _quadratic(classes: int, split: int) -> Float[np.ndarray, " k"]:
    return np.concatenate([np.linspace(1, 0, split) ** 2, -(np.linspace(0, -1, classes - split) ** 2)])


_COMBINATIONS = {
    "linear": lambda classes, split: np.linspace(1, -1, classes),
    "quadratic": _quadratic,
    "top": lambda classes, split: np.eye(classes)[0],
    "top_bottom": lambda classes, split: np.eye(classes)[0] - np.eye(classes)[-1],
}
