"""What a stage of a transformer is: patch tokens on their grid, the tokens before them, and what is yet to be added."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tokens:
    """The tokens of images after some block, D features each."""

    patches: Any  # [b, h, w, D], the stage's map
    prefix: Any  # [b, n, D], n of them: the class token first, then the registers
    residual: Any = None  # [b, n + h w, D] where the last block's attention branch starts: what it is added to

    def joined(self) -> Float[Array, "b t d"]:
        """Prefix and patches, row by row, as the one sequence that blocks work on."""
        b, h, w, width = self.patches.shape
        return jnp.concatenate([self.prefix, self.patches.reshape(b, h * w, width)], axis=1)

    def refilled(self, sequence: Float[Array, "b t d"]) -> "Tokens":
        """The tokens of another sequence, on the same grid and without a residual."""
        count = self.prefix.shape[1]
        return Tokens(sequence[:, count:].reshape(self.patches.shape), sequence[:, :count])
