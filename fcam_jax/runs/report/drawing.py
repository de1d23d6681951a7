"""Maps, masks and boxes drawn onto an image, pixel by pixel and at the size at which it will be seen.

In: an enlarged image and what to draw, in the frame or resolution of the original; out: a new image.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from fcam_jax.types import Annotation, Image

CELL = 160  # longer side of an enlarged image, in pixels
TRUE_COLOUR = (40, 230, 40)
PREDICTED_COLOUR = (240, 20, 20)
MISSED_COLOUR = (40, 230, 40)
FALSE_COLOUR = (40, 90, 255)


def enlarge(image: Image, side: int = CELL) -> UInt8[np.ndarray, "_ _ 3"]:
    """The image brought to a longer side of so many pixels, smoothly."""
    factor = side / max(image.shape[:2])
    size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_LANCZOS4 if factor > 1 else cv2.INTER_AREA)


def overlay_map(image: Image, score_map: Float[np.ndarray, "a b"]) -> Image:
    """The image under a map in [0, 1] in colours from dark violet to light yellow; what is not a number counts as 0."""
    colours = cv2.applyColorMap(_fit(_levels(score_map), image), cv2.COLORMAP_INFERNO)
    return cv2.addWeighted(image, 0.5, cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), 0.5, 0)


def overlay_mask(image: Image, mask: Bool[np.ndarray, "a b"]) -> Image:
    """The image with the mask in translucent red."""
    inside = _fit_mask(mask, image)
    tinted = cv2.addWeighted(image, 0.5, np.full_like(image, PREDICTED_COLOUR), 0.5, 0)
    return np.where(inside[..., None], tinted, image)


def overlay_errors(
    image: Image,
    mask: Bool[np.ndarray, "a b"],
    truth: Bool[np.ndarray, "c d"],
    ignore: Bool[np.ndarray, "c d"] | None = None,
) -> Image:
    """The image with what of a mask is right in translucent red, what it misses in green, what is wrong in blue.

    Args:
      image: an enlarged image.
      mask: the one to be judged.
      truth: the true one.
      ignore: True where the truth is undecided: nothing is wrong there.
    """
    taken, true = _fit_mask(mask, image), _fit_mask(truth, image)
    decided = np.ones_like(true) if ignore is None else ~_fit_mask(ignore, image)
    colours = image.copy()
    colours[taken & true] = PREDICTED_COLOUR
    colours[~taken & true] = MISSED_COLOUR
    colours[taken & ~true & decided] = FALSE_COLOUR
    return cv2.addWeighted(image, 0.5, colours, 0.5, 0)


def draw_box(
    image: Image, box: Int[np.ndarray, " 4"], size: tuple[int, int], colour: tuple[int, int, int], thickness: int = 2
) -> Image:
    """The image with the frame of a box; its lines lie on the outermost pixels of the box.

    Args:
      image: an enlarged image.
      box: inclusive corners ``x0, y0, x1, y1`` in pixels of the original.
      size: height and width of the original.
      colour: RGB in [0, 255].
      thickness: of the lines, in pixels.
    """
    height, width = image.shape[:2]
    scale = np.array([width / size[1], height / size[0]])
    x0, y0 = np.clip(np.rint(box[:2] * scale), 0, (width - 1, height - 1)).astype(int).tolist()
    x1, y1 = np.clip(np.rint((box[2:] + 1) * scale) - 1, 0, (width - 1, height - 1)).astype(int).tolist()
    drawn = image.copy()
    for inset in range(thickness):
        corner, opposite = (x0 + inset, y0 + inset), (x1 - inset, y1 - inset)
        if opposite[0] >= corner[0] and opposite[1] >= corner[1]:
            cv2.rectangle(drawn, corner, opposite, colour, 1)
    return drawn


def draw_outline(image: Image, mask: Bool[np.ndarray, "a b"], colour: tuple[int, int, int]) -> Image:
    """The image with the outline of a mask, one pixel wide."""
    outlines, _ = cv2.findContours(_fit_mask(mask, image).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), outlines, -1, colour, 1)


def draw_truth(image: Image, truth: Annotation, size: tuple[int, int]) -> Image:
    """The image with the true outline and the true boxes, which are in a frame of height and width `size`."""
    if truth.mask is not None:
        image = draw_outline(image, truth.mask, TRUE_COLOUR)
    for box in () if truth.boxes is None else truth.boxes:
        image = draw_box(image, box, size, TRUE_COLOUR)
    return image


def draw_spots(image: Image, mask: Bool[np.ndarray, "a b"], colour: tuple[int, int, int], smallest: int) -> Image:
    """The image with a mask in a colour; what is smaller is drawn as a square of `smallest` pixels, to be seen."""
    drawn = image.copy()
    drawn[_fit_mask(mask, image)] = colour
    scale = np.array(image.shape[:2]) / mask.shape
    _, _, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for left, top, width, height, _ in boxes[1:]:
        if max(height * scale[0], width * scale[1]) < smallest:
            y, x = np.rint((np.array([top, left]) + np.array([height, width]) / 2) * scale - smallest / 2).astype(int)
            cv2.rectangle(drawn, (int(x), int(y)), (int(x) + smallest - 1, int(y) + smallest - 1), colour, cv2.FILLED)
    return drawn


def _levels(score_map: Float[np.ndarray, "a b"]) -> UInt8[np.ndarray, "a b"]:
    return np.rint(255 * np.clip(np.nan_to_num(score_map), 0, 1)).astype(np.uint8)


def _fit(levels: UInt8[np.ndarray, "a b"], image: Image) -> UInt8[np.ndarray, "h w"]:
    return cv2.resize(levels, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _fit_mask(mask: Bool[np.ndarray, "a b"], image: Image) -> Bool[np.ndarray, "h w"]:
    return cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
