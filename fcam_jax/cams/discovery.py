"""Object discovery: where an object is, by how alike the patches of one image are; of no class, and nothing is trained.

Patches are compared by their keys in a transformer's last block; DINO's are best. All runs on the device.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fcam_jax.cams.attention import AttentionCAM
from fcam_jax.cams.contract import KeyNetwork, Target
from fcam_jax.component import at_least
from fcam_jax.errors import InputError

_EXACT = jax.lax.Precision.HIGHEST
_DIGITS = 5  # of a vector whose largest element is 1
_UNLIKE = 1e-5  # affinity of patches that are not alike, so that the graph is one


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscoveryCAM(AttentionCAM):
    """A map of the keys of the last block."""

    whole = "made of the last block's keys"
    shown_by = KeyNetwork

    def of_keys(self, keys: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
        """The map of patches that are compared by these."""
        raise NotImplementedError

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map on the grid of the patches; it passes no gradient."""
        self.check(target.network)
        assert isinstance(target.network, KeyNetwork)
        return self.of_keys(jax.lax.stop_gradient(target.network.keys(target.stages)).astype(jnp.float32))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenCut(DiscoveryCAM):
    """TokenCut: the second eigenvector of the graph of like patches, which cuts it in two.

    $$ (D - W)\\, y = \\lambda D\\, y, \\qquad W_{pq} = [\\cos(k_p, k_q) > \\tau] \\text{ or } 10^{-5}, \\qquad
       C = \\pm (y - \\bar y) $$

    D are the sums of W's rows, and the largest |y| is 1. The sign makes C positive there: it is of the object. The
    published cut is where C is above 0, and its box that of the part which holds this patch. Where all pairs are
    joined, or none is, nothing is to be cut, and C is 0.

    Attributes:
      tau: likeness from which on patches are joined, from -1 to 1.

    Raises:
      InputError: tau is no likeness; the network has no attention.

    Differs from: the released program's part for weakly supervised localization, whose tau is 0.05 by default.

    Reference: Wang et al., Self-supervised transformers for unsupervised object discovery using normalized cut, CVPR
      2022, section 3; the released program.
    """

    title = "TokenCut"
    tau: float = 0.2

    def __post_init__(self) -> None:
        at_least(self, tau=-1)
        if self.tau > 1:
            raise InputError(f"tau is {self.tau}; it must lie in [-1, 1]")

    def of_keys(self, keys: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
        lengths = jnp.sqrt((keys**2).sum(axis=-1, keepdims=True))
        likeness = _products(keys / jnp.where(lengths == 0, 1, lengths))
        joined = likeness > self.tau
        vector, _ = second_vector(jnp.where(joined, 1.0, _UNLIKE))
        others = (joined & ~jnp.eye(joined.shape[-1], dtype=bool)).sum(axis=(1, 2))[:, None]
        vector = jnp.where((others == 0) | (others == joined.shape[-1] * (joined.shape[-1] - 1)), 0, vector)
        # Patches with the same neighbours have the same value but for rounding, by which their order would hang on the
        # number of devices.
        largest = jnp.abs(vector).max(axis=1, keepdims=True)
        vector = jnp.round(vector / jnp.where(largest == 0, 1, largest), _DIGITS)
        peak = jnp.take_along_axis(vector, jnp.abs(vector).argmax(axis=1)[:, None], axis=1)
        centred = vector - vector.mean(axis=1, keepdims=True)
        return (centred * jnp.where(peak < vector.mean(axis=1, keepdims=True), -1, 1)).reshape(keys.shape[:-1])


def second_vector(affinity: Float[Array, "b n n"]) -> tuple[Float[Array, "b n"], Float[Array, " b"]]:
    """The second eigenvector y of $(D - W) y = \\lambda D y$, of some sign, and its eigenvalue.

    With $z = D^{1/2} y$ it is an eigenvector of $D^{-1/2} W D^{-1/2}$, of the largest eigenvalue $1 - \\lambda$ but
    that of the first, $D^{1/2} 1$, which is known and moved to the other end.
    """
    roots = jnp.sqrt(affinity.sum(axis=-1))
    first = roots / jnp.sqrt((roots**2).sum(axis=-1, keepdims=True))
    scaled = affinity / (roots[:, :, None] * roots[:, None])
    values, vectors = jnp.linalg.eigh(scaled - 2 * first[:, :, None] * first[:, None])
    return vectors[..., -1] / roots, 1 - values[:, -1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LOST(DiscoveryCAM):
    """LOST: the patch that is like the fewest others is of an object, and what is like it is of the same.

    $$ A = K K^\\top, \\quad d_p = |\\{q \\ne p: A_{pq} > 0\\}|, \\quad s = \\arg\\min_p d_p, \\quad
       v_p = \\sum_{q \\in V} A_{pq} $$

    V are those of the `candidates` patches of least degree d with $A_{sq} > 0$. Where v is above 0, the part that holds
    the seed s, by neighbours that share a side, is the published mask. The map is v there and 0 elsewhere.

    Attributes:
      candidates: patches of least degree that may vote.

    Raises:
      InputError: there are no candidates; the network has no attention.

    Reference: Simeoni et al., Localizing objects with self-supervised transformers and no labels, BMVC 2021, section 3;
      the released program. That the map has values in the mask is a choice of this one.
    """

    title = "LOST"
    candidates: int = 100

    def __post_init__(self) -> None:
        at_least(self, candidates=1)

    def of_keys(self, keys: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
        likeness = _products(keys)
        degrees = ((likeness > 0) & ~jnp.eye(likeness.shape[-1], dtype=bool)).sum(axis=-1)
        order = jnp.argsort(degrees, axis=-1, stable=True)
        seed = order[:, :1]
        least = (jnp.argsort(order, axis=-1) < self.candidates)[:, None]
        voting = least & (jnp.take_along_axis(likeness, seed[..., None], axis=1) > 0)
        votes = jnp.where(voting, likeness, 0).sum(axis=-1).reshape(keys.shape[:-1])
        return jnp.where(component(votes > 0, seed[:, 0]), votes, 0)


def component(mask: Bool[Array, "b h w"], seed: Int[Array, " b"]) -> Bool[Array, "b h w"]:
    """The part of a mask that holds a position, counted row by row; neighbours share a side."""
    b, h, w = mask.shape
    start = mask & (jnp.arange(h * w) == seed[:, None]).reshape(b, h, w)

    def grown(found: Bool[Array, "b h w"]) -> Bool[Array, "b h w"]:
        around = jnp.pad(found, [(0, 0), (1, 1), (1, 1)])
        beside = around[:, :-2, 1:-1] | around[:, 2:, 1:-1] | around[:, 1:-1, :-2] | around[:, 1:-1, 2:]
        return mask & (found | beside)

    def growing(pair: tuple[Array, Array]) -> Bool[Array, ""]:
        return (pair[0] != pair[1]).any()

    return jax.lax.while_loop(growing, lambda pair: (pair[1], grown(pair[1])), (start, grown(start)))[1]


def _products(keys: Float[Array, "b h w c"]) -> Float[Array, "b n n"]:
    """Products of the keys of all pairs of patches, row by row."""
    rows = keys.reshape(len(keys), -1, keys.shape[-1])
    return jnp.einsum("bpc,bqc->bpq", rows, rows, precision=_EXACT)
