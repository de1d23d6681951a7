"""Maps and localizations of example images as a PNG file, laid out as in a paper.

In: images, maps and boxes that the caller has computed; nothing is measured here. Out: a PNG file, in which the cells
stand pixel by pixel. Figures 3 and A.6 of the F-CAM paper are the model.
"""

import dataclasses
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from fcam_jax.runs.report.curves import save_figure
from fcam_jax.runs.report.drawing import (
    CELL,
    PREDICTED_COLOUR,
    draw_box,
    draw_truth,
    enlarge,
    overlay_errors,
    overlay_map,
    overlay_mask,
)
from fcam_jax.runs.report.localized import Localized
from fcam_jax.runtime.text import printable, shorten
from fcam_jax.types import Annotation, Image

# A power of two: sides in inches times this are whole pixels again, and cells land on pixels exactly.
_DPI = 128
_GAP = 6
_LABEL_WIDTH = 128
_LABEL_LETTERS = 20
_HEADING_HEIGHT = 38
_HEADING_LETTERS = 22
_LEAST_ROW_HEIGHT = 30

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Panel:
    """What one method says about an image."""

    title: str  # the method's name
    score_map: Float[np.ndarray, "a b"]  # in [0, 1], of any resolution
    found: Localized | None = None  # the map cut at a threshold


@dataclasses.dataclass(frozen=True)
class GridRow:
    """A row of the grid: an image, its ground truth in the image's frame, and what every method says about it."""

    image: UInt8[np.ndarray, "h w 3"]  # RGB in [0, 255]
    truth: Annotation
    class_name: str
    panels: Sequence[Panel]  # one for each method, in the same order in every row


@dataclasses.dataclass(frozen=True)
class _Row:
    """A label, cells of one size, and a note for the corner of each cell."""

    label: str
    cells: list[np.ndarray]
    notes: list[str]


def save_grid(path: pathlib.Path, examples: Sequence[GridRow]) -> None:
    """Save a row per image: its ground truth, then for every method the map on the image and the localization.

    True boxes and outlines are green, predicted boxes and thresholded maps red. Where there are masks and no boxes, a
    map's errors have colours: green what it misses, blue what is not the object.

    Args:
      path: the PNG or JPEG file.
      examples: at least one, all with the same methods.

    Raises:
      ValueError: without examples, or when their methods differ.
    """
    titles = [[panel.title for panel in example.panels] for example in examples]
    if not titles or any(row != titles[0] for row in titles):
        raise ValueError(f"a grid needs examples that all show the same methods, got {titles}")
    headings = ["image", *(text for title in titles[0] for text in (title, f"{title}: localization"))]
    rows = []
    for example in examples:
        maps = [
            (overlay_map(enlarge(example.image), p.score_map), _localization(example, p.found)) for p in example.panels
        ]
        cells = [
            draw_truth(enlarge(example.image), example.truth, example.image.shape[:2]),
            *(cell for pair in maps for cell in pair),
        ]
        notes = ["", *(text for panel in example.panels for text in ("", _note(panel.found)))]
        rows.append(_Row(_label(example.class_name, example.truth.image_id), cells, notes))
    _save_rows(path, headings, rows)


def spread(examples: Sequence[Item], count: int) -> list[Item]:
    """At most so many examples, evenly spread, so that they show many classes."""
    places = np.linspace(0, len(examples) - 1, min(count, len(examples)))
    return [examples[int(place)] for place in places]


def _localization(example: GridRow, found: Localized | None) -> Image:
    """What a method localizes, over the ground truth; without boxes it is the mask that is judged."""
    cell, truth = enlarge(example.image), example.truth
    if found is not None and truth.boxes is None and truth.mask is not None:
        cell = overlay_errors(cell, found.mask, truth.mask, truth.ignore)
    elif found is not None:
        cell = overlay_mask(cell, found.mask)
    cell = draw_truth(cell, truth, example.image.shape[:2])
    if found is None or found.box is None:
        return cell
    return draw_box(cell, found.box, example.image.shape[:2], PREDICTED_COLOUR)


def _note(found: Localized | None) -> str:
    if found is None:
        return ""
    overlap = "" if found.iou is None else f"IoU {found.iou:.2f}  "
    return f"{overlap}\N{GREEK SMALL LETTER TAU} {found.threshold:.2f}"


def _save_rows(path: pathlib.Path, headings: Sequence[str], rows: Sequence[_Row]) -> None:
    """Lay the cells out on white under their headings, each row as high as its cells."""
    heights = [max(len(row.cells[0]), _LEAST_ROW_HEIGHT) + _GAP for row in rows]
    width, height = _LABEL_WIDTH + len(headings) * (CELL + _GAP), _HEADING_HEIGHT + sum(heights)
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)

    def write(x: int, y: int, text: str, size: int, **style: Any) -> None:
        figure.text(x / width, 1 - y / height, text, fontsize=size * 72 / _DPI, parse_math=False, **style)

    columns = [_LABEL_WIDTH + i * (CELL + _GAP) for i in range(len(headings))]
    for x, heading in zip(columns, headings, strict=True):
        text = textwrap.fill(printable(heading), _HEADING_LETTERS, max_lines=2, placeholder=" ...")
        write(x + CELL // 2, _HEADING_HEIGHT - 4, text, 11, ha="center", va="bottom", linespacing=1.1)
    top = _HEADING_HEIGHT
    for row, row_height in zip(rows, heights, strict=True):
        cell_height, cell_width = row.cells[0].shape[:2]
        write(_LABEL_WIDTH - 8, top + cell_height // 2, row.label, 10, ha="right", va="center")
        for x, cell, note in zip(columns, row.cells, row.notes, strict=True):
            left = x + (CELL - cell_width) // 2
            canvas[top : top + cell_height, left : left + cell_width] = cell
            if note:
                shade = {"facecolor": (0, 0, 0, 0.6), "linewidth": 0, "pad": 1.5}
                write(left + 4, top + cell_height - 4, note, 9, color="white", va="bottom", bbox=shade)
        top += row_height
    figure.figimage(canvas)
    save_figure(figure, path)


def _label(class_name: str, image_id: str) -> str:
    """The beginning of a class's name over the end of an id, where a path is most telling."""
    lines = (
        shorten(printable(class_name), _LABEL_LETTERS),
        shorten(printable(image_id)[::-1], _LABEL_LETTERS)[::-1],
    )
    return "\n".join(line for line in lines if line)
