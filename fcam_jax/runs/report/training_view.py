"""A picture of what training sees: image, CAM, seeds, map and the pull of the CRF term, a row for each image."""

import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from fcam_jax.methods.fcam import View
from fcam_jax.runs.report.curves import save_figure
from fcam_jax.runs.report.drawing import CELL, FALSE_COLOUR, PREDICTED_COLOUR, draw_spots, enlarge, overlay_map
from fcam_jax.runtime.text import printable, shorten
from fcam_jax.seeds.sampling import BACKGROUND, FOREGROUND
from fcam_jax.types import Image

_GAP, _CAPTION, _TITLE = 6, 18, 32  # in pixels
_DPI, _LETTERS = 100, 26
_SMALLEST = 9  # side of a drawn seed, in pixels
_DIMMED = 0.35

TITLES = (
    "{}\nimage",
    "CAM of the class\nwhat seeds are drawn from",
    "seeds\nred foreground, blue background",
    "foreground map S\ndark 0, light 1",
    "gradient of the CRF term in S\nred: S grows, blue: S falls",
)


def save_training_view(path: pathlib.Path, view: View, names: Sequence[str], title: str) -> None:
    """Save a row for each image: image, CAM, seeds, foreground map and, where there is one, the CRF term's gradient.

    Below them stand the class, the numbers of seeded pixels, the share of the foreground (the mean of S), and the range
    of the gradient's colours, which is that image's own.

    Args:
      path: the PNG file, whose folder exists.
      view: what training sees, on the host.
      names: the images' classes.
      title: of the picture.
    """
    columns = len(TITLES) - (view.crf_gradient is None)
    rows = len(names)
    wide, high = CELL + _GAP, CELL + _CAPTION + _GAP
    canvas = np.full((_TITLE + rows * high, _GAP + columns * wide, 3), 255, np.uint8)
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)

    def write(column: int, y: float, text: str) -> None:
        x = (_GAP + column * wide + CELL / 2) / width
        figure.text(x, 1 - y / height, text, fontsize=7, ha="center", va="center", parse_math=False)

    for column, text in enumerate(TITLES[:columns]):
        write(column, _TITLE / 2, text.format(title))
    for row, name in enumerate(names):
        top = _TITLE + row * high
        for column, (cell, caption) in enumerate(_cells(view, row, shorten(printable(name), _LETTERS))):
            left = _GAP + column * wide
            canvas[top : top + len(cell), left : left + cell.shape[1]] = cell
            write(column, top + CELL + _CAPTION / 2, caption)
    figure.figimage(canvas)
    save_figure(figure, path)


def _cells(view: View, row: int, name: str) -> list[tuple[Image, str]]:
    """The pictures of an image, and what is written below each."""
    image = enlarge(np.asarray(view.images[row]))
    cam, seeds, foreground = (np.asarray(maps[row]) for maps in (view.cams, view.seeds, view.foreground))
    foreground_pixels, background_pixels = (seeds == FOREGROUND).sum(), (seeds == BACKGROUND).sum()
    unknown = seeds.size - foreground_pixels - background_pixels
    counts = f"{foreground_pixels} and {background_pixels} pixels, {unknown} unknown"
    cells = [
        (image, name),
        (overlay_map(image, cam), ""),
        (_with_seeds(image, seeds), counts),
        (overlay_map(image, foreground), f"foreground {100 * foreground.mean():.1f} %"),
    ]
    if view.crf_gradient is not None:
        gradient = np.asarray(view.crf_gradient[row])
        most = float(np.abs(gradient).max())
        cells.append((_diverging(gradient, most), f"-{most:.1e} to {most:.1e}"))
    return cells


def _with_seeds(image: Image, seeds: Int[np.ndarray, "a b"]) -> Image:
    drawn = (image * _DIMMED).astype(np.uint8)
    for kind, colour in ((BACKGROUND, FALSE_COLOUR), (FOREGROUND, PREDICTED_COLOUR)):
        drawn = draw_spots(drawn, seeds == kind, colour, _SMALLEST)
    return drawn


def _diverging(values: Float[np.ndarray, "h w"], most: float) -> UInt8[np.ndarray, "_ _ 3"]:
    """Colours from red (-most) over white (0) to blue (most)."""
    share = np.nan_to_num(values / most) if most > 0 else np.zeros_like(values)
    colours = matplotlib.colormaps["RdBu"]((share + 1) / 2)[..., :3]
    return enlarge(np.rint(255 * colours).astype(np.uint8))
