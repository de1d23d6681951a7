"""From a decoded image to the pixels that the network sees, at training and at evaluation.

Training: `resize` to a square that is larger than the crop, then `random_crop_and_flip`. Evaluation: `resize` to the
final square at once. The aspect ratio is not kept. Reference: F-CAM (WACV 2022), experimental setting.
"""

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from fcam_jax.types import Image


def resize(image: Image, side: int) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """An image at `side` x `side` pixels, by Pillow's bilinear filter (which averages when it shrinks)."""
    return np.asarray(PIL.Image.fromarray(image).resize((side, side), PIL.Image.Resampling.BILINEAR))


def random_crop_and_flip(image: Image, side: int, rng: np.random.Generator) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A uniformly placed `side` x `side` crop, mirrored left to right with probability one half.

    Args:
      image: at least `side` pixels high and wide.
      side: side of the crop in pixels.
      rng: the only source of randomness.
    """
    height, width = image.shape[:2]
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop = image[top : top + side, left : left + side]
    return crop[:, ::-1] if rng.random() < 0.5 else crop
