"""Images in the forms in which a program or notebook has them: paths, PIL images, arrays."""

import os
import pathlib
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from fcam_jax.data.images import read_image
from fcam_jax.errors import InputError
from fcam_jax.types import Image


def images_of(given: Any) -> list[Image]:
    """One image or several, in any form that `Loaded` takes, as RGB pixels.

    Raises:
      InputError: one cannot be used; the message says which.
    """
    if isinstance(given, list | tuple) or (hasattr(given, "ndim") and given.ndim == 4):
        if not len(given):
            raise InputError("there is no image")
        return [_image(one, f"image {place}") for place, one in enumerate(given)]
    return [_image(given, "image")]


def _image(given: Any, name: str) -> Image:
    if isinstance(given, str | os.PathLike):
        return read_image(pathlib.Path(given), upright=True)
    if isinstance(given, PIL.Image.Image):
        upright = PIL.ImageOps.exif_transpose(given)
        given = np.asarray(upright if upright.mode.startswith(("I", "F")) else upright.convert("RGB"))
    pixels = np.asarray(given)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise InputError(f"{name} has shape {np.shape(given)}; it must be (height, width, 3) or (height, width)")
    pixels = np.broadcast_to(pixels[..., :3], (*pixels.shape[:2], 3))
    low, high = pixels.min(), pixels.max()
    if np.issubdtype(pixels.dtype, np.floating):
        if not 0 <= low <= high <= 1:
            raise InputError(f"{name} holds floats from {low:g} to {high:g}; floats are in [0, 1], uint8 in [0, 255]")
        pixels = np.rint(255 * pixels)
    elif pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257)
    elif not np.issubdtype(pixels.dtype, np.integer) or low < 0 or high > 255:
        raise InputError(f"{name} holds {pixels.dtype} from {low} to {high}; it must hold uint8 in [0, 255]")
    return np.ascontiguousarray(pixels, np.uint8)
