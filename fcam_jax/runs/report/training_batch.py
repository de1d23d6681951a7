"""A picture of what a network is trained on: the images of a batch as they enter it, with what is known of them."""

import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from fcam_jax.runs.class_names import class_title
from fcam_jax.runs.report.curves import save_figure
from fcam_jax.runs.report.drawing import CELL, draw_truth, enlarge
from fcam_jax.runtime.text import printable, shorten
from fcam_jax.types import Annotation

_COLUMNS, _GAP, _CAPTION = 8, 6, 18  # the last two in pixels
_DPI, _LETTERS = 100, 26


def save_training_batch(
    path: pathlib.Path,
    images: UInt8[np.ndarray, "b h w 3"],
    annotations: Sequence[Annotation],
    class_names: Sequence[str] | None = None,
) -> None:
    """Save the images in rows of eight, their classes below and, in green, boxes and outlines where they are known.

    Args:
      path: the PNG file; its folder is made where it does not exist.
      images: RGB in [0, 255].
      annotations: of the images, in their frame.
      class_names: by label.
    """
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    wide, high = CELL + _GAP, CELL + _CAPTION + _GAP
    canvas = np.full((rows * high, columns * wide, 3), 255, np.uint8)
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    for number, (image, annotation) in enumerate(zip(images, annotations, strict=True)):
        top, left = number // columns * high, number % columns * wide
        cell = draw_truth(enlarge(image), annotation, (image.shape[0], image.shape[1]))
        canvas[top : top + len(cell), left : left + cell.shape[1]] = cell
        text = shorten(printable(class_title(class_names, annotation.label)), _LETTERS)
        x, y = (left + CELL / 2) / width, 1 - (top + CELL + _CAPTION / 2) / height
        figure.text(x, y, text, fontsize=7, ha="center", va="center", parse_math=False)
    figure.figimage(canvas)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)
