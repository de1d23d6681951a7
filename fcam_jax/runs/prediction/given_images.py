"""Images in the forms in which a program or notebook has them: paths, PIL images, arrays."""

import logging
import os
import pathlib
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from fcam_jax.data.images import Window, read_image, windowed
from fcam_jax.errors import InputError
from fcam_jax.types import Image

logger = logging.getLogger(__name__)


def images_of(given: Any, window: Window = ()) -> list[Image]:
    """One image or several, in any form that `Loaded` takes, as RGB pixels; the window is `decode_image`'s.

    Raises:
      InputError: one cannot be used; the message says which.
    """
    if not _are_several(given):
        return [_image(given, "image", window)]
    if not len(given):
        raise InputError("there is no image")
    return [_image(one, f"image {place}", window) for place, one in enumerate(given)]


def names_of(given: Any) -> list[str]:
    """What such images are called, for people: by their path or place."""
    each = given if _are_several(given) else [given]
    return [str(one) if isinstance(one, str | os.PathLike) else f"image {place}" for place, one in enumerate(each)]


def _are_several(given: Any) -> bool:
    return isinstance(given, list | tuple) or (hasattr(given, "ndim") and given.ndim == 4)


def _image(given: Any, name: str, window: Window) -> Image:
    if isinstance(given, str | os.PathLike):
        return read_image(pathlib.Path(given), upright=True, window=window)
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
    if window and pixels.dtype != np.uint8:
        pixels = windowed(pixels, window)
    elif np.issubdtype(pixels.dtype, np.floating):
        if not 0 <= low <= high <= 1:
            raise InputError(f"{name} holds floats from {low:g} to {high:g}; floats are in [0, 1], uint8 in [0, 255]")
        pixels = np.rint(255 * pixels)
    elif pixels.dtype == np.uint16:
        if high < 2**14:  # as cameras of 10 to 14 bits give
            logger.warning("%s holds uint16 up to %d, which is nearly black where 65535 is white: scale it", name, high)
        pixels = np.rint(pixels / 257)
    elif not np.issubdtype(pixels.dtype, np.integer) or low < 0 or high > 255:
        raise InputError(f"{name} holds {pixels.dtype} from {low} to {high}; it must hold uint8 in [0, 255]")
    elif high == 1:
        raise InputError(f"{name} holds whole numbers of 0 and 1 alone; multiply them by 255, or give floats")
    return np.ascontiguousarray(pixels, np.uint8)
