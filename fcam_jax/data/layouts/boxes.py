"""Boxes as files write them, to corners ``x0, y0, x1, y1`` in whole pixels.

In: four numbers a box, in pixels or as shares of the image. Out: corners, and which of the boxes lie in their image.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from fcam_jax.data.layouts.problems import File, Problems

BOX_RULE = "box must have 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height of its image"

# What the four numbers are, and how a message calls them.
FORMS = {
    "corners": "x0 y0 x1 y1",
    "xywh": "x y width height",
    "centre": "the centre's x y, width height",
    "yx": "y0 x0 y1 x1",
}


def fitting(boxes: Int[np.ndarray, "m 4"], size: tuple[int, int]) -> Bool[np.ndarray, " m"]:
    """Which boxes obey `BOX_RULE` in an image of a width and height."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.all((low >= 0) & (low < high) & (high <= size), axis=1)


def of_images(
    values: Float[np.ndarray, "m 4"],  # of all boxes
    rows: Int[np.ndarray, " m"],  # the image of each box
    sizes: Int[np.ndarray, "n 2"],  # width and height of each image as they are stated, 0 where they are not
    form: str,  # one of `FORMS`
    file: File,  # that holds the boxes
    problems: Problems,  # is told of what looks wrong with all of them
    *,
    shares: bool = False,  # of the image, whatever the numbers; otherwise where all lie in [0, 1]
    looked_up: Int[np.ndarray, "n 2"] | None = None,  # sizes with those that the images' own files have
) -> tuple[list[Int[np.ndarray, "_ 4"]], Bool[np.ndarray, " m"]]:
    """The boxes of each image in pixels, and which of all were boxes of their image; the others are left out.

    Raises:
      InputError: the sizes that shares need are not known, or the boxes are of another form: several are no boxes of
        their image, but all would be.
    """
    known = (sizes if looked_up is None else looked_up)[rows]
    boxes, fits = _corners(_in_pixels(values, form, known, file, problems, shares), form, sizes[rows])
    boxes, rows = boxes[fits], rows[fits]
    ends = np.cumsum(np.bincount(rows, minlength=len(sizes)))
    return np.split(boxes[np.argsort(rows, kind="stable")], ends[:-1]), fits


def _corners(
    values: Float[np.ndarray, "m 4"], form: str, sizes: Int[np.ndarray, "m 2"]
) -> tuple[Int[np.ndarray, "m 4"], Bool[np.ndarray, " m"]]:
    """Corners of boxes in pixels, and which of them are boxes of their image, whose size may be 0, not known.

    Each edge goes to the nearest whole pixel (halves up), a box keeps at least one pixel, and what is less than a pixel
    over an edge of the image is cut off: files hold rounded products.
    """
    values = values[:, [1, 0, 3, 2]] if form == "yx" else values
    low, high = values[:, :2], values[:, 2:]
    if form in ("xywh", "centre"):
        low = low - high / 2 if form == "centre" else low
        high = low + values[:, 2:]
    ends = np.where(sizes > 0, sizes, 2**30)
    with np.errstate(invalid="ignore"):
        fits = np.all((low > -1) & (low < high) & (low < ends) & (high < ends + 1), axis=1)
    first = np.maximum(np.floor(np.where(fits[:, None], low, 0) + 0.5), 0)
    last = np.minimum(np.maximum(np.floor(np.where(fits[:, None], high, 1) + 0.5), first + 1), ends)
    return np.hstack([np.minimum(first, last - 1), last]).astype(np.int32), fits


def _in_pixels(
    values: Float[np.ndarray, "m 4"],
    form: str,
    sizes: Int[np.ndarray, "m 2"],
    file: File,
    problems: Problems,
    shares: bool,
) -> Float[np.ndarray, "m 4"]:
    tiny = (values.min(axis=1) >= 0) & (values.max(axis=1) <= 1) & (values % 1 > 0).any(axis=1)
    sides = np.tile(sizes[:, ::-1] if form == "yx" else sizes, 2)
    if shares:
        values = values * sides
    elif len(values) and values.min() >= 0 and values.max() <= 1.001 and (values % 1 > 0).any():
        if not sizes.all():
            raise problems.stop(file, "boxes are shares of the image; they need its width and height, or be in pixels")
        problems.warn(file, "all boxes lie in [0, 1]: they are taken as shares of the image's width and height")
        values = values * sides
    elif 20 * tiny.sum() > len(values):
        text = f"{tiny.sum()} of {len(values)} boxes lie in [0, 1], but not all"
        problems.warn(file, f"{text}: they are taken as in pixels")
    wrong = np.count_nonzero(~_corners(values, form, sizes)[1])
    if wrong < 2 or 10 * wrong < len(values):
        return values
    text = f"{wrong} of {len(values)} boxes are none of their image as {FORMS[form]}"
    first, *others = [other for other in FORMS if _corners(values, other, sizes)[1].all()] or [""]
    if first:
        also = "".join(f", or {FORMS[other]} ({other})" for other in others)
        cure = f"as {FORMS[first]}{also}: --config.data.folder.boxes={first}"
        raise problems.stop(file, f"{text}, but all are {cure}")
    for parts in () if shares or values.min() < 0 else (100, 1000):
        if values.max() <= parts and _corners(values * sides / parts, form, sizes)[1].all():
            text += f", but all would be in shares of 1/{parts}"
            break
    pixels = "" if shares else "in pixels of the image as it is stored, or "
    problems.warn(file, f"{text}; they must be {pixels}shares of it, from 0 to 1")
    return values
