"""The block of a vision transformer: attention over all tokens and a perceptron on each, both added to their input."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fcam_jax.models.encoder import At, Keys, asked_for, unchanged
from fcam_jax.models.layers import drop_path, gelu

INIT = jax.nn.initializers.truncated_normal(0.02)

Sequence = Float[Array, "b t d"]


def linear(inputs: int, outputs: int, **of_layers: Any) -> nnx.Linear:
    """A linear layer as transformers start it."""
    return nnx.Linear(inputs, outputs, kernel_init=INIT, **of_layers)


def layer_norm(width: int, **of_layers: Any) -> nnx.LayerNorm:
    """LayerNorm over the features of each token, with statistics in float32."""
    return nnx.LayerNorm(width, epsilon=1e-6, use_fast_variance=False, **of_layers)


class Attention(nnx.Module):
    """Self-attention of several heads.

    $$ \\mathrm{out} = W_o\\, \\mathrm{softmax}\\Big(\\frac{Q K^\\top}{\\sqrt{D / \\mathrm{heads}}}\\Big) V $$

    Queries, keys and values are one linear layer, in this order. A fused kernel computes it where there is one, but
    for matrices that are asked for (`Asking`).
    """

    def __init__(self, width: int, heads: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.proj = linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Sequence, at: At, place: str) -> Sequence:
        """What every token takes from all tokens; the matrices have their own name of a place."""
        q, k, v = self.split(x)
        if asked_for(at, place):
            return self.mixed(at(place, jax.nn.softmax(scores(q, k), axis=-1)), v)
        return self.proj(jax.nn.dot_product_attention(q, k, v, implementation=_kernel(x.dtype)).reshape(x.shape))

    def split(self, x: Sequence) -> Float[Array, "3 b t heads _"]:
        """Queries, keys and values of every token."""
        return jnp.moveaxis(self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1), 2, 0)

    def mixed(self, matrices: Float[Array, "b heads t t"], v: Float[Array, "b t heads _"]) -> Sequence:
        """What every token takes from the values of all, given its shares in them."""
        mixed = jnp.einsum("bhqk,bkhc->bqhc", matrices.astype(v.dtype), v)
        return self.proj(mixed.reshape(*v.shape[:2], -1))


def scores(q: Float[Array, "b t heads c"], k: Float[Array, "b t heads c"]) -> Float[Array, "b heads t t"]:
    """Products of queries and keys over the root of their length, before the softmax; float32."""
    return jnp.einsum("bqhc,bkhc->bhqk", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5


def _kernel(dtype: DTypeLike) -> Literal["cudnn"] | None:
    """CuDNN's kernel takes numbers of 16 bits; everywhere else XLA fuses what it can."""
    return "cudnn" if jax.default_backend() == "gpu" and jnp.dtype(dtype).itemsize == 2 else None


class Perceptron(nnx.Module):
    """Two linear layers with a GELU between, four times as wide as the tokens there."""

    def __init__(self, width: int, **of_layers: Any):
        self.fc1 = linear(width, 4 * width, **of_layers)
        self.fc2 = linear(4 * width, width, **of_layers)

    def __call__(self, x: Sequence) -> Sequence:
        """Each token on its own."""
        return self.fc2(gelu(self.fc1(x)))


class LayerScale(nnx.Module):
    """A factor for every feature of a branch, small at first (Touvron et al., Going deeper, ICCV 2021)."""

    def __init__(self, width: int, initial: float = 1e-5):
        self.gamma = nnx.Param(jnp.full(width, initial, jnp.float32))

    def __call__(self, x: Sequence) -> Sequence:
        """The scaled branch."""
        return x * self.gamma.astype(x.dtype)


class Block(nnx.Module):
    """A block whose norms are before its branches.

    $$ x \\leftarrow x + s_1\\, \\mathrm{attn}(\\mathrm{LN}(x)), \\qquad
       x \\leftarrow x + s_2\\, \\mathrm{mlp}(\\mathrm{LN}(x)) $$

    Args:
      layer_scale: whether there are factors s, which are 1 otherwise.
      drop_path: share of the images of which a branch is left out in training.

    Reference: Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021.
    """

    def __init__(self, width: int, heads: int, *, layer_scale: bool, drop_path: float, **of_layers: Any):
        self.drop_path = drop_path
        self.norm1 = layer_norm(width, **of_layers)
        self.attn = Attention(width, heads, **of_layers)
        self.ls1 = LayerScale(width) if layer_scale else None
        self.norm2 = layer_norm(width, **of_layers)
        self.mlp = Perceptron(width, **of_layers)
        self.ls2 = LayerScale(width) if layer_scale else None

    def __call__(
        self, x: Sequence, normed: Sequence, number: int, *, train: bool, rng: Keys = None, at: At = unchanged
    ) -> Sequence:
        """The tokens after both branches of block `number`, from those before and what `norm1` makes of them."""
        rate = self.drop_path if train else 0.0
        mixed = _scaled(self.attn(normed, at, f"blocks.{number}.attn"), self.ls1)
        x = x + drop_path(mixed, rate, rng, 2 * number)
        changed = _scaled(self.mlp(self.norm2(x)), self.ls2)
        return x + drop_path(changed, rate, rng, 2 * number + 1)


def _scaled(x: Sequence, scale: LayerScale | None) -> Sequence:
    return x if scale is None else scale(x)
