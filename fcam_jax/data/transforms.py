"""From a decoded image to the pixels that the network sees, at training and at evaluation.

Training: `resize` to a square that is larger than the crop, then `cut_out` of a `random_crop`. Evaluation: `resize` to
the final square at once. The aspect ratio is not kept. Reference: F-CAM (WACV 2022), experimental setting.
"""

import dataclasses

import cv2
import numpy as np
from jaxtyping import UInt8

from fcam_jax.data.bilinear import resized_rows
from fcam_jax.types import Image


def resize(image: Image, side: int) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """An image at `side` x `side` pixels, by Pillow's bilinear filter (which averages when it shrinks).

    First along the rows, transposed because the filter is fast over whole rows, then along the columns; the pixels are
    rounded to 8 bits in between, so the order matters.
    """
    height, width = image.shape[:2]
    image = np.ascontiguousarray(image)
    if width != side:
        columns = cv2.transpose(image).reshape(width, height * 3)
        image = cv2.transpose(resized_rows(columns, side).reshape(side, height, 3))
    if height != side:
        image = resized_rows(image.reshape(height, side * 3), side).reshape(side, side, 3)
    return image


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


def cut_out(image: Image, side: int, crop: Crop) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """The pixels of a crop of `side` x `side` pixels."""
    pixels = image[crop.top : crop.top + side, crop.left : crop.left + side]
    # A view with reversed columns would be copied pixel by pixel when it is put into a batch.
    return cv2.flip(pixels, 1) if crop.mirrored else pixels
