"""The picture of a prediction: the image beside its map in colours, the box on both, and a caption below.

In: an image of the size at which it is shown, a map, a box. Out: pixels.
"""

import functools
import pathlib

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
_GAP = 4


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
    panels = [image, overlay_map(image, restore(score_map, (height, width)))]
    if box is not None:
        thickness = max(2, round(max(height, width) / 250))
        panels = [_draw_framed(panel, box, size, thickness) for panel in panels]
    full_width = max(2 * width + _GAP, _LEAST_WIDTH)
    letters = min(max(full_width // 50, 13), 36)
    margin = letters // 2
    canvas = np.full((height + 3 * letters, full_width, 3), 255, np.uint8)
    canvas[:height, :width], canvas[:height, width + _GAP : 2 * width + _GAP] = panels
    picture = PIL.Image.fromarray(canvas)
    draw = PIL.ImageDraw.Draw(picture)
    for text, top, points, grey in zip(caption, (0.3, 1.8), (letters, round(0.75 * letters)), (0, 90), strict=True):
        font = _font(points)
        room = full_width - 2 * margin
        draw.text((margin, height + round(top * letters)), _shortened(text, font, room), (grey,) * 3, font)
    return np.asarray(picture)


def _draw_framed(image: Image, box: Int[np.ndarray, " 4"], size: tuple[int, int], thickness: int) -> Image:
    """The box in colour on a white line, which parts it from a map's red."""
    return draw_box(draw_box(image, box, size, (255, 255, 255), 2 * thickness), box, size, PREDICTED_COLOUR, thickness)


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
