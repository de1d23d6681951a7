"""Maps, masks and boxes drawn onto an image at the size at which it is seen, and sheets of such cells with texts.

In: an enlarged image and what to draw, in the frame or resolution of the original; out: a new image.
"""

import functools
import pathlib

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from jaxtyping import Bool, Float, Int, UInt8

from fcam_jax.types import Annotation, Image

CELL = 160  # longer side of an enlarged image, in pixels
GAP = 6  # between cells
TRUE_COLOUR, PREDICTED_COLOUR, FALSE_COLOUR = (40, 230, 40), (240, 20, 20), (40, 90, 255)

Size = tuple[int, int]  # height and width


class Sheet:
    """A white picture on which cells stand pixel by pixel, with texts beside them."""

    def __init__(self, height: int, width: int):
        self.image = PIL.Image.new("RGB", (width, height), "white")
        self._draw = PIL.ImageDraw.Draw(self.image, "RGBA")

    def put(self, x: int, y: int, cell: UInt8[np.ndarray, "h w 3"]) -> None:
        """Put a cell with its upper left corner at a place."""
        self.image.paste(PIL.Image.fromarray(cell), (x, y))

    def write(
        self, x: int, y: int, text: str, size: int, anchor: str = "mm", shaded: bool = False, grey: int = 0
    ) -> None:
        """Write a text of a size in pixels, anchored at a place as Pillow has it; if shaded, in white on grey."""
        if shaded:
            left, top, right, bottom = self._draw.multiline_textbbox((x, y), text, font(size), anchor)
            self._draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), (0, 0, 0, 153))
        colour = (255,) * 3 if shaded else (grey,) * 3
        align = "right" if anchor[0] == "r" else "center"
        self._draw.multiline_text((x, y), text, colour, font(size), anchor, align=align)

    def save(self, path: pathlib.Path) -> None:
        """Save it as the PNG or JPEG file that the name asks for; its folder is made where it does not exist."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.image.save(path)


@functools.cache
def font(size: int) -> PIL.ImageFont.FreeTypeFont:
    """Letters of a size in pixels; Pillow's own font knows Latin ones only."""
    import matplotlib

    return PIL.ImageFont.truetype(pathlib.Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def encoded(image: UInt8[np.ndarray, "..."], ending: str = ".png", *settings: int) -> bytes:
    """The file of an image, of levels or RGB, with settings of OpenCV's."""
    pixels = np.ascontiguousarray(image[..., ::-1] if image.ndim == 3 else image)
    return bytes(cv2.imencode(ending, pixels, settings)[1])


def enlarge(image: Image, side: int = CELL) -> UInt8[np.ndarray, "_ _ 3"]:
    """The image brought to a longer side of so many pixels, smoothly."""
    factor = side / max(image.shape[:2])
    size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_LANCZOS4 if factor > 1 else cv2.INTER_AREA)


def overlay_map(image: Image, score_map: Float[np.ndarray, "a b"]) -> Image:
    """The image under a map in [0, 1] in colours from dark violet to light yellow; what is not a number counts as 0."""
    scores = np.clip(np.nan_to_num(score_map), 0, 1).astype(np.float32)
    levels = np.rint(255 * cv2.resize(scores, image.shape[1::-1])).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    return cv2.addWeighted(image, 0.5, cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), 0.5, 0)


def overlay_mask(image: Image, mask: Bool[np.ndarray, "a b"], truth: Annotation | None = None) -> Image:
    """The image with a mask in translucent red; against a true one, what it misses in green, what is wrong in blue.

    Where the truth is undecided, nothing is wrong.
    """
    taken, colours = _fitted(mask, image), image.copy()
    colours[taken] = PREDICTED_COLOUR
    if truth is not None and truth.mask is not None:
        true = _fitted(truth.mask, image)
        undecided = np.zeros_like(true) if truth.ignore is None else _fitted(truth.ignore, image)
        colours[~taken & true] = TRUE_COLOUR
        colours[taken & ~true] = FALSE_COLOUR
        colours[undecided & ~true] = image[undecided & ~true]
    return cv2.addWeighted(image, 0.5, colours, 0.5, 0)


def draw_box(
    image: Image, box: Int[np.ndarray, " 4"], size: Size, colour: tuple[int, int, int], thickness: int = 2
) -> Image:
    """The image with the frame of a box, whose lines lie on its outermost pixels.

    The box has inclusive corners ``x0, y0, x1, y1`` in pixels of an original of some size.
    """
    height, width = image.shape[:2]
    scale, last = np.array([width / size[1], height / size[0]]), (width - 1, height - 1)
    x0, y0 = np.clip(np.rint(box[:2] * scale), 0, last).astype(int).tolist()
    x1, y1 = np.clip(np.rint((box[2:] + 1) * scale) - 1, 0, last).astype(int).tolist()
    drawn = image.copy()
    for inset in range(thickness):
        if x1 - inset >= x0 + inset and y1 - inset >= y0 + inset:
            cv2.rectangle(drawn, (x0 + inset, y0 + inset), (x1 - inset, y1 - inset), colour, 1)
    return drawn


def draw_outline(
    image: Image, mask: Bool[np.ndarray, "a b"], colour: tuple[int, int, int], thickness: int = 1
) -> Image:
    """The image with the outline of a mask, whose middle lies on the mask's outermost pixels."""
    outlines, _ = cv2.findContours(_fitted(mask, image).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), outlines, -1, colour, thickness)


def draw_truth(image: Image, truth: Annotation, size: Size) -> Image:
    """The image with the true outline and the true boxes, which are in a frame of a size."""
    if truth.mask is not None:
        image = draw_outline(image, truth.mask, TRUE_COLOUR)
    for box in () if truth.boxes is None else truth.boxes:
        image = draw_box(image, box, size, TRUE_COLOUR)
    return image


def draw_spots(image: Image, mask: Bool[np.ndarray, "a b"], colour: tuple[int, int, int], smallest: int) -> Image:
    """The image with a mask in a colour; what is smaller is drawn as a square of `smallest` pixels, to be seen."""
    drawn = image.copy()
    drawn[_fitted(mask, image)] = colour
    scale = np.array(image.shape[:2]) / mask.shape
    _, _, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for left, top, width, height, _ in boxes[1:]:
        if max(height * scale[0], width * scale[1]) < smallest:
            y, x = np.rint((np.array([top, left]) + np.array([height, width]) / 2) * scale - smallest / 2).astype(int)
            cv2.rectangle(drawn, (int(x), int(y)), (int(x) + smallest - 1, int(y) + smallest - 1), colour, cv2.FILLED)
    return drawn


def _fitted(mask: Bool[np.ndarray, "a b"], image: Image) -> Bool[np.ndarray, "h w"]:
    return cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
