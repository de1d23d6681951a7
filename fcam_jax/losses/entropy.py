"""Entropy of the regions' probabilities: low where every pixel has decided for one of them."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcam_jax.losses.term import Evidence, LossTerm


def entropy(logits: Float[Array, "b h w k"]) -> Float[Array, " b"]:
    """Mean entropy of the pixels of every image.

    $$ -\\frac1N \\sum_p \\sum_k S_p^k \\log S_p^k $$

    Computed from the logarithm of the softmax, so that value and gradient are finite where a probability is 0.

    Args:
      logits: scores of the regions before softmax; they are taken to float32.

    Returns:
      Nats, in [0, log k].

    Reference: Grandvalet and Bengio, Semi-supervised learning by entropy minimization, NIPS 2004, section 2.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -(jnp.exp(log_probs) * log_probs).sum(axis=-1).mean(axis=(1, 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entropy(LossTerm):
    """Mean `entropy` of the pixels, in nats: it makes the map decide."""

    def of_images(self, known: Evidence) -> Float[Array, " b"]:
        return entropy(known.logits)
