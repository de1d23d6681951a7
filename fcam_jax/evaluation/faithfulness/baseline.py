"""What stands in the place of pixels that are not shown."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fcam_jax.data.arrays import array_of
from fcam_jax.errors import InputError
from fcam_jax.evaluation.faithfulness.blur import gaussian_blur

# Side and deviation of the blur, in pixels: those of RISE's program.
_BLUR = 11, 5.0


def checked_baseline(baseline: Any, images: Any) -> str | tuple[float, ...]:
    """A baseline that can be compared. Raises InputError: there is no such baseline for these images."""
    must = "it must be 'blur', 'mean', a number, or a number for each channel"
    if isinstance(baseline, str):
        if baseline not in ("blur", "mean"):
            raise InputError(f"baseline is {baseline!r}; {must}")
        return baseline
    numbers = tuple(np.ravel(np.asarray(array_of(baseline, "baseline"), float)).tolist())
    channels = np.shape(images)[-1:]
    if len(numbers) != 1 and (len(numbers),) != channels:
        raise InputError(f"baseline has {len(numbers)} numbers of images of the shape {np.shape(images)}; {must}")
    return numbers


def baseline_of(images: Float[Array, "b h w c"], baseline: str | tuple[float, ...]) -> Float[Array, "b h w c"]:
    """The baseline of each image: "blur", a Gaussian of 11 x 11 pixels; "mean", its mean colour; or one colour."""
    if baseline == "blur":
        return gaussian_blur(images, *_BLUR)
    colour = images.mean(axis=(1, 2), keepdims=True) if baseline == "mean" else jnp.asarray(baseline, jnp.float32)
    return jnp.broadcast_to(colour, images.shape)
