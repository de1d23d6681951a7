"""Pictures of images with what is known and said of them: grids of an evaluation, and what training sees.

In: images, maps and boxes that the caller has computed. Out: PNG or JPEG files, in which the cells stand pixel by
pixel. Figures 3 and A.6 of the F-CAM paper are the model of the grids.
"""

import dataclasses
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from fcam_jax.evaluation.boxes import quantise
from fcam_jax.evaluation.metrics import localizing
from fcam_jax.evaluation.result import Evaluation, Example
from fcam_jax.methods.fcam import View
from fcam_jax.runs.class_names import ClassNames, class_title
from fcam_jax.runs.report import drawing
from fcam_jax.runs.report.curves import BOX_ACCURACY, Line, save_plot
from fcam_jax.runs.report.drawing import CELL, FALSE_COLOUR, GAP, PREDICTED_COLOUR, Sheet
from fcam_jax.runs.report.record import best_threshold, localized
from fcam_jax.runtime.text import printable, shorten
from fcam_jax.seeds.sampling import BACKGROUND, FOREGROUND
from fcam_jax.types import Annotation, Image

# In pixels.
_LABEL, _HEADING, _LEAST_ROW = 128, 38, 30
_CAPTION, _TITLE = 18, 32
_SEED = 9  # side of the smallest drawn seed

Item = TypeVar("Item")
Cell = tuple[Image, str]  # with what is written onto or below it

_SEEN = (
    "{}\nimage",
    "CAM of the class\nwhat seeds are drawn from",
    "seeds\nred foreground, blue background",
    "foreground map S\ndark 0, light 1",
    "gradient of the CRF term in S\nred: S grows, blue: S falls",
)


@dataclasses.dataclass(frozen=True)
class GridRow:
    """A row of the grid: an image, its ground truth in the image's frame, and what every method says about it."""

    image: UInt8[np.ndarray, "h w 3"]  # RGB in [0, 255]
    truth: Annotation
    class_name: str
    # by the methods' names, in the same order in every row: their maps, see `quantise`, and where these are cut
    panels: Mapping[str, tuple[UInt8[np.ndarray, "h w"], float]]


def save_pictures(
    folder: pathlib.Path,
    evaluations: Mapping[str, Evaluation],
    count: int | None = None,
    class_names: ClassNames | None = None,
) -> None:
    """Save `test_grid.png` and, where there are boxes, `box_accuracy.png`; nothing where there are no examples.

    Box and mask of a method are those at its own best threshold. All methods have the same examples in the same order;
    at most `count` are drawn, evenly spread. The folder is made where it does not exist.
    """
    rows = list(zip(*(evaluation.examples for evaluation in evaluations.values()), strict=True))
    rows = rows if count is None else spread(rows, count)
    if not rows:
        return
    save_grid(folder / "test_grid.png", [_grid_row(evaluations, examples, class_names) for examples in rows])
    of = {name: one for name, one in evaluations.items() if localizing(one.curves)}
    lines = [Line(name, one.thresholds, one.curves[localizing(one.curves)]) for name, one in of.items()]
    if lines:
        save_plot([folder / "box_accuracy.png"], BOX_ACCURACY, lines)


def save_grid(path: pathlib.Path, examples: Sequence[GridRow]) -> None:
    """Save a row per image: its ground truth, then for every method the map on the image and the localization.

    True boxes and outlines are green, predicted boxes and thresholded maps red. Where there are masks and no boxes, a
    map's errors have colours: green what it misses, blue what is not the object. There is at least one example, and all
    have the same methods, else it is a `ValueError`. The file is a PNG or JPEG one.
    """
    titles = {tuple(example.panels) for example in examples}
    if len(titles) != 1:
        raise ValueError(f"a grid needs examples that all show the same methods, got {titles}")
    headings = ["image", *(text for title in titles.pop() for text in (title, f"{title}: localization"))]
    columns = [_LABEL + i * (CELL + GAP) for i in range(len(headings))]
    rows = [_cells_of(example) for example in examples]
    heights = [max(len(cells[0][0]), _LEAST_ROW) + GAP for cells in rows]
    sheet = Sheet(_HEADING + sum(heights), columns[-1] + CELL + GAP)
    for x, heading in zip(columns, headings, strict=True):
        text = textwrap.fill(printable(heading), 22, max_lines=2, placeholder=" ...")
        sheet.write(x + CELL // 2, _HEADING - 4, text, 11, "md")
    top = _HEADING
    for example, cells, row_height in zip(examples, rows, heights, strict=True):
        height, width = cells[0][0].shape[:2]
        sheet.write(_LABEL - 8, top + height // 2, _label(example), 10, "rm")
        for column, (cell, note) in zip(columns, cells, strict=True):
            x = column + (CELL - width) // 2
            sheet.put(x, top, cell)
            if note:
                sheet.write(x + 5, top + height - 5, note, 9, "ld", shaded=True)
        top += row_height
    sheet.save(path)


def save_training_batch(
    path: pathlib.Path,
    images: UInt8[np.ndarray, "b h w 3"],
    annotations: Sequence[Annotation],
    class_names: ClassNames | None = None,
) -> None:
    """Save images as a network is trained on them, in rows of eight, with what is known of them.

    Their classes stand below; boxes and outlines, in the images' frame, are green. The file's folder is made.
    """
    cells = [
        (drawing.draw_truth(drawing.enlarge(image), one, image.shape[:2]), _name(class_title(class_names, one.label)))
        for image, one in zip(images, annotations, strict=True)
    ]
    _save_cells(path, [cells[first : first + 8] for first in range(0, len(cells), 8)])


def save_training_view(path: pathlib.Path, view: View, names: Sequence[str], title: str) -> None:
    """Save a row for each image: image, CAM, seeds, foreground map and, where there is one, the CRF term's gradient.

    Below them stand the class, the numbers of seeded pixels, the share of the foreground (the mean of S), and the range
    of the gradient's colours, which is that image's own. The view is on the host.
    """
    rows = [_cells_seen(view, row, name) for row, name in enumerate(names)]
    _save_cells(path, rows, [text.format(title) for text in _SEEN[: len(rows[0])]])


def spread(examples: Sequence[Item], count: int) -> list[Item]:
    """At most so many examples, evenly spread, so that they show many classes."""
    places = np.linspace(0, len(examples) - 1, min(count, len(examples)))
    return [examples[int(place)] for place in places]


def _grid_row(evaluations: Mapping[str, Evaluation], examples: Sequence[Example], names: ClassNames | None) -> GridRow:
    image, truth = examples[0].image, examples[0].annotation
    panels = {
        name: (quantise(one.score_map), best_threshold(evaluation.metrics))
        for (name, evaluation), one in zip(evaluations.items(), examples, strict=True)
    }
    return GridRow(image, truth, class_title(names, truth.label), panels)


def _cells_of(example: GridRow) -> list[Cell]:
    image, truth, size = drawing.enlarge(example.image), example.truth, example.image.shape[:2]
    cells = [(drawing.draw_truth(image, truth, size), "")]
    for levels, threshold in example.panels.values():
        found = localized(levels, truth, threshold)
        cell = drawing.overlay_mask(image, found.mask, truth if truth.boxes is None else None)
        cell = drawing.draw_truth(cell, truth, size)
        if found.box is not None:
            cell = drawing.draw_box(cell, found.box, size, PREDICTED_COLOUR)
        overlap = "" if found.iou is None else f"IoU {found.iou:.2f}  "
        note = f"{overlap}\N{GREEK SMALL LETTER TAU} {threshold:.2f}"
        cells += [(drawing.overlay_map(image, levels / 255), ""), (cell, note)]
    return cells


def _label(example: GridRow) -> str:
    """The beginning of a class's name over the end of an id, where a path is most telling."""
    name = shorten(printable(example.class_name), 20)
    return "\n".join(filter(None, (name, shorten(printable(example.truth.image_id)[::-1], 20)[::-1])))


def _cells_seen(view: View, row: int, name: str) -> list[Cell]:
    image = drawing.enlarge(np.asarray(view.images[row]))
    cam, seeds, foreground = (np.asarray(maps[row]) for maps in (view.cams, view.seeds, view.foreground))
    drawn = (image * 0.35).astype(np.uint8)
    for kind, colour in ((BACKGROUND, FALSE_COLOUR), (FOREGROUND, PREDICTED_COLOUR)):
        drawn = drawing.draw_spots(drawn, seeds == kind, colour, _SEED)
    of = [int((seeds == kind).sum()) for kind in (FOREGROUND, BACKGROUND)]
    cells = [
        (image, _name(name)),
        (drawing.overlay_map(image, cam), ""),
        (drawn, f"{of[0]} and {of[1]} pixels, {seeds.size - sum(of)} unknown"),
        (drawing.overlay_map(image, foreground), f"foreground {100 * foreground.mean():.1f} %"),
    ]
    if view.crf_gradient is not None:
        gradient = np.asarray(view.crf_gradient[row])
        most = float(np.abs(gradient).max())
        share = np.nan_to_num(gradient / most) if most > 0 else np.zeros_like(gradient)
        import matplotlib

        colours = matplotlib.colormaps["RdBu"]((share + 1) / 2)[..., :3]
        cells.append((drawing.enlarge(np.rint(255 * colours).astype(np.uint8)), f"-{most:.1e} to {most:.1e}"))
    return cells


def _name(text: str) -> str:
    return shorten(printable(text), 26)


def _save_cells(path: pathlib.Path, rows: Sequence[Sequence[Cell]], titles: Sequence[str] = ()) -> None:
    """Save rows of cells with captions below them, and with titles above the columns if there are any."""
    wide, high, first = CELL + GAP, CELL + _CAPTION + GAP, _TITLE if titles else GAP
    sheet = Sheet(first + len(rows) * high, GAP + max(map(len, rows)) * wide)
    for column, title in enumerate(titles):
        sheet.write(GAP + column * wide + CELL // 2, _TITLE // 2, title, 10)
    for row, cells in enumerate(rows):
        for column, (cell, caption) in enumerate(cells):
            x, y = GAP + column * wide, first + row * high
            sheet.put(x, y, cell)
            sheet.write(x + CELL // 2, y + CELL + _CAPTION // 2, caption, 10)
    sheet.save(path)
