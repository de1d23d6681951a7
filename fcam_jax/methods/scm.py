"""SCM: layers that TS-CAM has in training alone spread attention to neighbours of a like meaning."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fcam_jax.cams.score_maps import minmax
from fcam_jax.component import at_least
from fcam_jax.losses.classification import cross_entropy
from fcam_jax.methods.classifier import Outcome
from fcam_jax.methods.contract import image_keys
from fcam_jax.methods.tscam import TSCAM, TokenHead, attended
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.encoder import Encoder
from fcam_jax.types import DATA_AXIS, Batch

_EXACT = jax.lax.Precision.HIGHEST
_START = 0.002  # of the iteration, times the matrix
_STEPS = 16, 4  # of the iteration in the first layer and in the others


class Calibration(nnx.Module):
    """One layer: attention is spread, and what it reaches is raised in the class maps, too.

    $$ o = \\mathrm{minmax}\\Big(r - \\tanh r\\Big), \\quad r = \\frac{D a}{\\tau \\max a}, \\qquad
       S \\leftarrow S (1 + o), \\quad a \\leftarrow a + o $$

    D is the `diffusion` of S, and the threshold tau is learnt.

    Args:
      steps: of the iteration that makes D.
    """

    def __init__(self, steps: int):
        self.threshold = nnx.Param(jnp.full((), 0.5, jnp.float32))
        self.steps = steps

    def __call__(
        self, attention: Float[Array, "b h w"], semantic: Float[Array, "b h w k"]
    ) -> tuple[Float[Array, "b h w"], Float[Array, "b h w k"]]:
        """Attention a and class maps S after the layer."""
        spread = jnp.einsum(
            "bpq,bq->bp", diffusion(semantic, self.steps), attention.reshape(len(attention), -1), precision=_EXACT
        ).reshape(attention.shape)
        highest = attention.max(axis=(1, 2), keepdims=True)
        ratio = spread / (self.threshold[...] * jnp.where(highest == 0, 1, highest))
        gain = minmax(ratio - jnp.tanh(ratio))
        return attention + gain, semantic * (1 + gain[..., None])


class CalibratedHead(TokenHead):
    """TS-CAM's head, and beside it the layers, which only training computes."""

    def __init__(self, features: int, num_classes: int, *, layers: int, **of_layers: Any):
        super().__init__(features, num_classes, **of_layers)
        self.calibration = nnx.List([Calibration(_STEPS[min(number, 1)]) for number in range(layers)])


def diffusion(semantic: Float[Array, "b h w k"], steps: int) -> Float[Array, "b n n"]:
    """What every position takes from every other: an inverse, as far as some steps of Newton and Schulz come.

    $$ Q = L \\odot (G - 1), \\quad V_0 = 0.002\\, Q^\\top, \\quad V \\leftarrow V (2 I - Q V), \\quad D = V^\\top $$

    L is the Laplacian of the grid, whose neighbours share a side, and G the cosine of the class maps at two positions.
    Q has no inverse in general, so the number of steps counts. No gradient passes through V_0.

    Differs from: the paper, which has a factor on G; it is 1 in the released program and gets no gradient.

    Reference: Bai et al., Weakly supervised object localization via transformer with implicit spatial calibration, ECCV
      2022, section 3; the released program.
    """
    b, h, w, _ = semantic.shape
    rows = semantic.reshape(b, h * w, -1)
    lengths = (rows**2).sum(axis=-1, keepdims=True)
    rows /= jnp.sqrt(jnp.where(lengths == 0, 1, lengths))
    likeness = jnp.einsum("bpk,bqk->bpq", rows, rows, precision=_EXACT)
    matrix = (likeness - 1) * laplacian(h, w)
    inverse = _START * jax.lax.stop_gradient(matrix).swapaxes(1, 2)
    for _ in range(steps):
        left = 2 * jnp.eye(h * w) - jnp.matmul(matrix, inverse, precision=_EXACT)
        inverse = jnp.matmul(inverse, left, precision=_EXACT)
    return inverse.swapaxes(1, 2)


def laplacian(height: int, width: int) -> Float[np.ndarray, "n n"]:
    """Of the grid's positions, row by row: how many neighbours a position has, and -1 for each of them."""
    rows, columns = np.divmod(np.arange(height * width), width)
    near = np.abs(rows[:, None] - rows) + np.abs(columns[:, None] - columns) == 1
    return (np.diag(near.sum(axis=1)) - near).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SCM(TSCAM):
    """TS-CAM whose scores, in training, are the means of class maps that some `Calibration` layers have changed.

    The first of them gets the class token's attention a, scaled to [0, 1], and the class maps S. The network is used
    without these layers: an image's scores are the means of S, and the label's map is

    $$ C_y = \\mathrm{minmax}(a) \\odot S_y $$

    Attributes:
      layers: how many there are; they have one trained number each.

    Raises:
      InputError: a setting is outside its range; the encoder is no transformer.

    Reference: Bai et al., ECCV 2022, section 3; the released program.
    """

    title = "SCM"
    layers: int = 4

    def __post_init__(self) -> None:
        at_least(self, layers=0)

    def head(self, encoder: Encoder, num_classes: int, **of_layers: Any) -> CalibratedHead:
        """TS-CAM's, with the layers; raises as that does."""
        self.check(encoder)
        return CalibratedHead(encoder.channels[-1], num_classes, layers=self.layers, **of_layers)

    def coupled(self, attention: Float[Array, "b h w"], semantic: Float[Array, "b h w"]) -> Float[Array, "b h w"]:
        return super().coupled(minmax(attention), semantic)

    def loss(self, model: Classifier, batch: Batch, rng: Key[Array, ""], step: Int[Array, ""]) -> Outcome:
        """Mean cross-entropy of the global batch; the scores that it is of; no further figures."""
        assert isinstance(model.head, CalibratedHead)
        inputs = model.normalize(jnp.asarray(batch.images))
        stages, attention = attended(model.encoder, inputs, train=True, rng=image_keys(rng, batch))
        attention, semantic = minmax(attention), model.head.maps(model.encoder.for_head(stages[-1]))
        for layer in model.head.calibration:
            attention, semantic = layer(attention, semantic)
        logits = semantic.mean(axis=(1, 2))
        losses = cross_entropy(logits, jnp.asarray(batch.labels))
        return jax.lax.pmean(losses.mean(), DATA_AXIS), logits, {}
