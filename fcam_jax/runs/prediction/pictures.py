"""Pictures of what is predicted: images with map, mask and boxes, and texts below, for people and notebooks."""

import io
import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import PIL.Image
from jaxtyping import Float, Int, UInt8

from fcam_jax.data.arrays import array_of
from fcam_jax.errors import InputError
from fcam_jax.evaluation.metric import checked_score_map
from fcam_jax.runs.prediction.images import are_several, images_of
from fcam_jax.runs.report import drawing
from fcam_jax.runs.report.drawing import PREDICTED_COLOUR, TRUE_COLOUR, Sheet, Size, draw_box, draw_outline
from fcam_jax.runtime.text import printable
from fcam_jax.types import Image

_GAP = 4
_LEAST_WIDTH = 360  # of an overlay, so that there is room for a caption
_SIDES = (320, 1600)  # the longer side of a picture of one image is brought between these
_CELL, _COLUMNS = 224, 4  # of a grid


class Picture:
    """A picture: notebooks show it, `save` writes it; its `pixels` are RGB in [0, 255]."""

    def __init__(self, pixels: Image):
        self.pixels = pixels

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.fromarray(self.pixels).save(buffer, "PNG")
        return buffer.getvalue()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file in the format that its name asks for, such as PNG."""
        try:
            PIL.Image.fromarray(self.pixels).save(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be written: {error}") from None

    def __repr__(self) -> str:
        return f"Picture of {self.pixels.shape[1]} x {self.pixels.shape[0]} pixels; .save('x.png') writes it"


def show(
    image: Any,
    map: Any = None,
    box: Any = None,
    mask: Any = None,
    *,
    title: str | Sequence[str] = "",
    path: str | os.PathLike[str] | None = None,
) -> Picture:
    """A picture of an image under its map, with box and mask; of a list of images, a grid.

    Args:
      image: as for `Loaded`, or a list of such; then what follows is a list of the same length, or None for all.
      map: in [0, 1], (height, width) or with one channel, of any size; dark is 0, light 1.
      box: corners ``x0, y0, x1, y1`` in pixels of the image, or several; the first is drawn last.
      mask: True on the object, of any size; drawn as an outline over a map, else as an area.
      title: written below.
      path: file to write to as well.

    Raises:
      InputError: map, box or mask cannot be drawn on the image.
    """
    images = images_of(image)
    several = are_several(image)
    parts: list[Any] = []
    for name, given in {"map": map, "box": box, "mask": mask, "title": title}.items():
        one_each = [given] * len(images) if given is None or isinstance(given, str) or not several else list(given)
        if len(one_each) != len(images):
            raise InputError(f"{name} has {len(one_each)} entries for {len(images)} images")
        parts.append(one_each)
    if not all(isinstance(text, str) for text in parts[-1]):
        raise InputError(f"title is {title!r}; it must be text, or for a list of images a text for each")
    low, high = (_CELL, _CELL) if several else _SIDES
    cells = [
        _captioned([drawn(one, min(max(low, *one.shape[:2]), high), *given)], [text] if text else [])
        for one, *given, text in zip(images, *parts, strict=True)
    ]
    high, wide = (max(cell.shape[axis] for cell in cells) + _GAP for axis in (0, 1))
    sheet = Sheet(-(-len(cells) // _COLUMNS) * high - _GAP, min(len(cells), _COLUMNS) * wide - _GAP)
    for place, cell in enumerate(cells):
        sheet.put(place % _COLUMNS * wide, place // _COLUMNS * high, cell)
    picture = Picture(np.asarray(sheet.image))
    if path is not None:
        picture.save(path)
    return picture


def draw_overlay(
    image: Image,
    score_map: Float[np.ndarray, "a b"],
    box: Int[np.ndarray, " 4"] | None,
    size: Size,
    caption: tuple[str, str],
) -> UInt8[np.ndarray, "_ _ 3"]:
    """An image as it is shown and the map, of any resolution, over it side by side, with two lines of text.

    The box, if there is one, is in pixels of the original image, which has a height and width.
    """
    both = (image, drawing.overlay_map(image, score_map))
    return _captioned([one if box is None else _framed(one, box, size) for one in both], caption, _LEAST_WIDTH)


def _framed(image: Image, box: Int[np.ndarray, " 4"], size: Size) -> Image:
    """The image with a box in colour on a white line, which parts it from a map's red."""
    thickness = max(2, round(max(image.shape[:2]) / 250))
    return draw_box(draw_box(image, box, size, (255, 255, 255), 2 * thickness), box, size, PREDICTED_COLOUR, thickness)


def _captioned(cells: Sequence[Image], caption: Sequence[str], least_width: int = 0) -> UInt8[np.ndarray, "_ _ 3"]:
    """Cells of one size with lines of text below: the first in large letters, those after it in small ones."""
    height, side = cells[0].shape[:2]
    width = max(len(cells) * (side + _GAP) - _GAP, least_width)
    letters = min(max(width // 50, 13), 36)
    margin = letters // 2
    sheet = Sheet(height + round(1.5 * letters * len(caption)), width)
    for place, cell in enumerate(cells):
        sheet.put(place * (side + _GAP), 0, cell)
    for line, given in enumerate(caption):
        size, text, end = round(0.75 * letters) if line else letters, printable(given), ""
        while text and drawing.font(size).getlength(text + end) > width - 2 * margin:
            text, end = text[:-1], "..."
        y = height + round((0.3 + 1.5 * line) * letters)
        sheet.write(margin, y, text + end, size, "la", grey=90 if line else 0)
    return np.asarray(sheet.image)


def drawn(image: Image, side: int, score_map: Any, box: Any, mask: Any) -> UInt8[np.ndarray, "_ _ 3"]:
    """An image at a longer side of so many pixels, with what `show` draws of map, boxes and mask; raises as that."""
    height, width = size = image.shape[:2]
    picture = drawing.enlarge(image, side)
    if score_map is not None:
        values = np.asarray(array_of(score_map, "map"), np.float32)
        values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
        picture = drawing.overlay_map(picture, checked_score_map(values, "of the picture"))
    if mask is not None:
        inside = np.asarray(mask)
        if inside.ndim != 2 or not inside.size:
            raise InputError(f"mask has shape {inside.shape}; it must be (height, width)")
        inside = cv2.resize(inside.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
        if score_map is None:
            picture = drawing.overlay_mask(picture, inside)
        else:
            picture = draw_outline(picture, inside, TRUE_COLOUR, max(1, round(side / 320)))
    boxes = np.zeros((0, 4), int) if box is None else np.asarray(box)
    if boxes.shape[-1:] != (4,) or boxes.ndim > 2 or boxes.dtype.kind not in "iuf":
        raise InputError(f"box has shape {boxes.shape} of {boxes.dtype}; it must be x0, y0, x1, y1, or several")
    for corners in boxes.reshape(-1, 4)[::-1]:
        x0, y0, x1, y1 = corners.tolist()
        if x1 < x0 or y1 < y0 or (boxes.dtype.kind == "f" and max(corners) <= 1):
            what = "shares of the image" if x0 <= x1 <= 1 and y0 <= y1 <= 1 else "x, y, width, height"
            raise InputError(f"box {[x0, y0, x1, y1]} looks like {what}; give corners x0, y0, x1, y1 in pixels")
        if not (0 <= x0 <= x1 <= width and 0 <= y0 <= y1 <= height and x0 < width and y0 < height):
            raise InputError(f"box {[x0, y0, x1, y1]} lies outside of the image of {width} x {height} pixels")
        picture = _framed(picture, corners, size)
    return picture
