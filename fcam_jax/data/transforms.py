"""From a decoded image to the pixels that the network sees, at training and at evaluation.

Training: `resize` to a square that is larger than the crop, then `cut_out` of a `random_crop`. Evaluation: `resize` to
the final square at once. The aspect ratio is not kept. Reference: F-CAM (WACV 2022), experimental setting.
"""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from fcam_jax.data.bilinear import resized_rows
from fcam_jax.types import Image


def resize(image: Image, side: int) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """An image at `side` x `side` pixels, by Pillow's bilinear filter (which averages when it shrinks).

    Width, then height, or height first where it shrinks by more than twice as many pixels as the width. The order is
    that of Pillow 13, and tells: pixels are rounded to 8 bits in between.
    """
    height, width = image.shape[:2]
    image = np.ascontiguousarray(image)
    tall = height > side and height - side > 2 * (width - side)
    if tall:
        image = _resized_height(image, side)
    if width != side:
        # The filter is fast over whole rows; to transpose twice costs less than to go along the columns.
        image = cv2.transpose(_resized_height(cv2.transpose(image), side))
    return image if tall else _resized_height(image, side)


def _resized_height(image: Image, side: int) -> UInt8[np.ndarray, "{side} w 3"]:
    height, width = image.shape[:2]
    if height == side:
        return image
    return resized_rows(image.reshape(height, width * 3), side).reshape(side, width, 3)


@dataclasses.dataclass(frozen=True)
class Crop:
    """A square out of an image, perhaps mirrored.

    Attributes:
      top: first row.
      left: first column.
      mirrored: whether it is mirrored left to right, after it was cut out.
    """

    top: int
    left: int
    mirrored: bool


def random_crop(height: int, width: int, side: int, rng: np.random.Generator) -> Crop:
    """A uniformly placed square, mirrored with probability one half.

    Args:
      height: of the image, at least `side` pixels.
      width: likewise.
      side: side of the square in pixels.
      rng: the only source of randomness.
    """
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    return Crop(int(top), int(left), bool(rng.random() < 0.5))


def cut_out(
    image: Shaped[np.ndarray, "h w *channels"], side: int, crop: Crop
) -> Shaped[np.ndarray, "{side} {side} *channels"]:
    """The pixels of a crop of `side` x `side` pixels, of an image or a mask."""
    pixels = image[crop.top : crop.top + side, crop.left : crop.left + side]
    if not crop.mirrored:
        return pixels
    # A view with reversed columns would be copied pixel by pixel when it is put into a batch.
    return cv2.flip(pixels.view(np.uint8), 1).view(pixels.dtype)
