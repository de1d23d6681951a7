"""Pictures of what is predicted: an image with map, mask and box, and a caption below.

In: an image of the size at which it is shown, a map, a box. Out: pixels.
"""

import functools
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from jaxtyping import Float, Int, UInt8

from fcam_jax.runs.prediction.restored import restore
from fcam_jax.runs.report.drawing import PREDICTED_COLOUR, draw_box, overlay_map
from fcam_jax.runtime.text import printable
from fcam_jax.types import Image

_LEAST_WIDTH = 360  # of the whole picture, so that there is room for a caption
GAP = 4


def draw_overlay(
    image: Image,
    score_map: Float[np.ndarray, "a b"],
    box: Int[np.ndarray, " 4"] | None,
    size: tuple[int, int],
    caption: tuple[str, str],
) -> UInt8[np.ndarray, "_ _ 3"]:
    """The image and the map over it side by side, with two lines of text.

    Args:
      image: at the size at which it is shown.
      score_map: in [0, 1], of any resolution.
      box: ``x0, y0, x1, y1`` in pixels of the original image, or None.
      size: height and width of the original image.
      caption: a line in large and one in small letters.
    """
    height, width = image.shape[:2]
    canvas = np.full((height, max(2 * width + GAP, _LEAST_WIDTH), 3), 255, np.uint8)
    canvas[:, :width] = framed(image, box, size)
    canvas[:, width + GAP : 2 * width + GAP] = framed(
        overlay_map(image, restore(score_map, (height, width))), box, size
    )
    return captioned(canvas, caption)


def framed(image: Image, box: Int[np.ndarray, " 4"] | None, size: tuple[int, int]) -> Image:
    """The image with a box, if there is one, in colour on a white line, which parts it from a map's red."""
    if box is None:
        return image
    thickness = max(2, round(max(image.shape[:2]) / 250))
    return draw_box(draw_box(image, box, size, (255, 255, 255), 2 * thickness), box, size, PREDICTED_COLOUR, thickness)


def captioned(picture: Image, caption: Sequence[str]) -> UInt8[np.ndarray, "_ _ 3"]:
    """The picture with lines of text below it: the first in large letters, those after it in small ones."""
    height, width = picture.shape[:2]
    letters = min(max(width // 50, 13), 36)
    margin = letters // 2
    canvas = np.full((height + round(1.5 * letters * len(caption)), width, 3), 255, np.uint8)
    canvas[:height] = picture
    drawn = PIL.Image.fromarray(canvas)
    draw = PIL.ImageDraw.Draw(drawn)
    for line, text in enumerate(caption):
        font, grey = _font(round(0.75 * letters) if line else letters), 90 if line else 0
        top = height + round((0.3 + 1.5 * line) * letters)
        draw.text((margin, top), _shortened(text, font, width - 2 * margin), (grey,) * 3, font)
    return np.asarray(drawn)


@functools.cache
def _font(points: int) -> PIL.ImageFont.FreeTypeFont:
    # Pillow's own font knows Latin letters only.
    return PIL.ImageFont.truetype(pathlib.Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), points)


def _shortened(text: str, font: PIL.ImageFont.FreeTypeFont, room: int) -> str:
    """As much of the text as there is room for, in pixels."""
    text = printable(text)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."
