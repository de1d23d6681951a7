"""Reconstruction of the input image: keeps in the decoder's features what the image looks like."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from fcam_jax.losses.term import Evidence, LossTerm


def reconstruction_error(reconstructed: Float[Array, "b h w 3"], images: UInt8[Array, "b h w 3"]) -> Float[Array, " b"]:
    """Mean squared error of every image over its pixels and channels.

    $$ \\frac1{3N} \\sum_{p,c} \\Big(\\hat X_p^c - \\frac{X_p^c}{255}\\Big)^2 $$

    Args:
      reconstructed: in [0, 1].
      images: RGB in [0, 255].
    """
    return jnp.square(reconstructed - images.astype(jnp.float32) / 255).mean(axis=(1, 2, 3))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction(LossTerm):
    """`reconstruction_error` of the image that the decoder's second head makes of its features."""

    needs_image: ClassVar[bool] = True

    def of_images(self, known: Evidence) -> Float[Array, " b"]:
        """Mean squared error to the image that the network sees."""
        assert known.image is not None, "the decoder has no head for the image"
        return reconstruction_error(known.image, known.images)
