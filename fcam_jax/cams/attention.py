"""CAMs out of a transformer's attention matrices: how much of each patch the blocks mix into what the head sees.

A is a block's matrices after the softmax, h a head, i a query, j a key. The blocks are followed one after the other.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.cams.contract import ActivationMap, AttentionNetwork, Target
from fcam_jax.component import at_least, known
from fcam_jax.errors import InputError
from fcam_jax.models.encoder import BlockAttention

_EXACT = jax.lax.Precision.HIGHEST
_FUSIONS: dict[str, Callable[..., Array]] = {"mean": jnp.mean, "max": jnp.max, "min": jnp.min}  # of the heads

Matrices = Float[Array, "b heads n n"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionCAM(ActivationMap):
    """A CAM of the attention matrices of all blocks, or some."""

    whole = "made of the blocks' attention"
    shown_by: ClassVar[Any] = AttentionNetwork  # what a network must be

    def check(self, network: Any) -> None:
        if not isinstance(network, self.shown_by) or network.attention_blocks == 0:
            raise InputError(
                f"{self.title} is {self.whole}, and the network has none: "
                "take a transformer, or another CAM such as 'gradcam'"
            )

    def tokens(self, target: Target) -> Float[Array, "b n"]:
        """A value for every token; those of the patches, which are the last ones, become the map."""
        raise NotImplementedError

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        """The map on the grid of the top stage."""
        self.check(target.network)
        b, h, w, _ = target.at(len(target.stages) - 1).map.shape
        return self.tokens(target)[:, -h * w :].reshape(b, h, w)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionRollout(AttentionCAM):
    """Attention rollout: attention of all blocks, multiplied up; of no class.

    $$ R = \\hat A_L \\cdots \\hat A_2 \\hat A_1, \\qquad \\hat A = \\mathrm{rows\\ to\\ 1}\\,
       \\big(\\tfrac12\\, \\mathrm{fuse}_h A_h + \\tfrac12\\, I\\big), \\qquad C_j = R_{cj} / \\max_j R_{cj} $$

    c is the class token and j a patch; of a head on the mean of the patches, C is the mean of their rows of R.

    Attributes:
      fuse: of the heads: "mean", "max" or "min".
      discard: share of the entries of each block's fused matrix that is set to 0, the smallest first; never that of
        the class token in itself.

    Raises:
      InputError: a setting is outside its range; the network has no attention.

    Differs from: vit-explain, which divides columns in place of rows (`a / a.sum(dim=-1)` without its axis), sets
      entries of the batch's first image alone to 0, and of equal entries only some. Its default is a `discard` of 0.9;
      the paper knows none, and fuses by the mean.

    Reference: Abnar and Zuidema, Quantifying attention flow in transformers, ACL 2020, Eq. 1; the program vit-explain
      (Gildenblat, 2020) for fusion and discarding.
    """

    title = "Attention rollout"
    fuse: str = "mean"
    discard: float = 0.0

    def __post_init__(self) -> None:
        known(self, fuse=_FUSIONS)
        at_least(self, discard=0)
        if self.discard >= 1:
            raise InputError(f"discard is {self.discard}; it must be below 1")

    def tokens(self, target: Target) -> Float[Array, "b n"]:
        """The row of R that the head sees."""
        found = None
        for block in _network(target).attentions(target.inputs):
            found = rolled(found, block.matrices, self.fuse, self.discard)
        return jnp.einsum("n,bnm->bm", block.read, found, precision=_EXACT)

    def __call__(self, target: Target) -> Float[Array, "b h w"]:
        maps = super().__call__(target)
        highest = maps.max(axis=(1, 2), keepdims=True)
        return maps / jnp.where(highest == 0, 1, highest)


def rolled(
    before: Float[Array, "b n n"] | None, matrices: Matrices, fuse: str = "mean", discard: float = 0.0
) -> Float[Array, "b n n"]:
    """R of `AttentionRollout` up to and with a block, from that up to the block before it (None: it is the first)."""
    fused = _FUSIONS[fuse](matrices.astype(jnp.float32), axis=1)
    b, n, _ = fused.shape
    if count := int(n * n * discard):
        flat = fused.reshape(b, n * n)
        kept = (flat > jnp.sort(flat, axis=1)[:, count - 1 : count]).at[:, 0].set(True)
        fused = jnp.where(kept, flat, 0).reshape(b, n, n)
    mixed = fused + jnp.eye(n)
    mixed /= mixed.sum(axis=-1, keepdims=True)
    return mixed if before is None else jnp.matmul(mixed, before, precision=_EXACT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeGrad(AttentionCAM):
    """LeGrad: sensitivity of the class's score to the attention that each block pays to a patch.

    $$ C_j = \\sum_l \\frac{1}{H n} \\sum_{h=1}^{H} \\sum_{i=1}^{n}
       \\mathrm{ReLU}\\Big(\\frac{\\partial s_l}{\\partial A_{l,h,i,j}}\\Big), \\qquad
       s_l = \\mathrm{logit}_y \\text{ of the tokens after block } l $$

    s_l is what norm and head make of block l's own tokens, as if it were the last one: of its class token, or the mean
    of its patches, as the head sees it. Of a class token only its row has a gradient. So each block is differentiated
    alone. The paper's last step, from the minimum and maximum to [0, 1], is that of all score maps.

    Attributes:
      blocks: how many of the last blocks are summed; 0: all of them.

    Raises:
      InputError: there are not so many blocks; the network has no attention.

    Differs from: the released program, which for CLIP takes the last 2 blocks, s_l of the mean of all tokens although
      its head is on the class token, scaled to length 1, and enlarges each block's map before the sum.

    Reference: Bousselham et al., LeGrad, ICCV 2025 (2024), section 3.
    """

    title = "LeGrad"
    blocks: int = 0

    def __post_init__(self) -> None:
        at_least(self, blocks=0)

    def check(self, network: Any) -> None:
        super().check(network)
        if self.blocks > network.attention_blocks:
            raise InputError(f"blocks is {self.blocks}; the network has {network.attention_blocks}")

    def tokens(self, target: Target) -> Float[Array, "b n"]:
        """The sum over the blocks."""

        def gradient(block: BlockAttention) -> Matrices:
            def score(matrices: Matrices) -> Float[Array, ""]:
                return target.explained(block.scores(matrices)).sum()

            return jax.grad(score)(block.matrices)

        network = _network(target)
        first = network.attention_blocks - self.blocks if self.blocks else 0
        blocks = itertools.islice(network.attentions(target.inputs), first, None)
        return functools.reduce(jnp.add, (sensitivity(gradient(block)) for block in blocks))


def sensitivity(gradients: Matrices) -> Float[Array, "b n"]:
    """One block's term of `LeGrad`, from the gradient of its score in its matrices: positive ones, by their key."""
    return jax.nn.relu(gradients.astype(jnp.float32)).mean(axis=(1, 2))


def _network(target: Target) -> AttentionNetwork:
    network = target.network
    assert isinstance(network, AttentionNetwork)  # `check` has said so
    return network
