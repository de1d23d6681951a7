"""Non-local blocks: self-attention between all positions of a map, added to it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from fcam_jax.models.batch_norm import BatchNorm
from fcam_jax.models.layers import conv

_AT_ONCE = 256  # queries; the matrix of all of 56 x 56 positions would be 39 MB for every image


class NonLocal(nnx.Module):
    """What all positions say to each, added to a map; at first the block changes nothing.

    $$ Y = X + \\mathrm{BN}(W_m O + b_m), \\qquad O_p = \\sum_q \\mathrm{softmax}_q(q_p^T k_q)\\, v_q $$

    q and k are 1x1 convolutions of X to an eighth of its channels, v to as many as it has. The scale of the BatchNorm
    is 0 at first. Attention is float32, a number of queries at a time, and computed anew for its gradient.

    Reference: Wang et al., Non-local neural networks, CVPR 2018, section 3; without a scale of q k, and with BatchNorm
      at the end, as in the program of NL-CCAM (Yang et al., WACV 2020).
    """

    def __init__(self, channels: int, **of_layers: Any):
        inner = max(channels // 8, 1)
        self.query = conv(channels, inner, 1, bias=True, **of_layers)
        self.key = conv(channels, inner, 1, bias=True, **of_layers)
        self.value = conv(channels, channels, 1, bias=True, **of_layers)
        self.out = conv(channels, channels, 1, bias=True, **of_layers)
        self.norm = BatchNorm(channels, **of_layers)
        assert self.norm.scale is not None
        self.norm.scale.set_value(jnp.zeros(channels))

    def mixed(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """What is normalised and added: W_m O + b_m."""
        query, key, value = (
            layer(x).reshape(len(x), -1, layer.out_features).astype(jnp.float32)
            for layer in (self.query, self.key, self.value)
        )

        @jax.checkpoint
        def attended(of_one: Float[Array, "b d"]) -> Float[Array, "b c"]:
            shares = jax.nn.softmax(jnp.einsum("bd,bqd->bq", of_one, key))
            return jnp.einsum("bq,bqc->bc", shares, value)

        found = jax.lax.map(attended, query.swapaxes(0, 1), batch_size=_AT_ONCE)
        return self.out(found.swapaxes(0, 1).reshape(x.shape).astype(x.dtype))

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """The map with what is added."""
        return x + self.norm(self.mixed(x), train=train)
