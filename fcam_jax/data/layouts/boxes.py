"""Boxes as files write them, to corners ``x0, y0, x1, y1`` in whole pixels.

In: four numbers a box, in pixels or as shares of the image. Out: corners, and which of the boxes lie in their image.
"""

import os

import numpy as np
from jaxtyping import Bool, Float, Int

from fcam_jax.data.layouts.problems import Problems

BOX_RULE = "box must have 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height of its image"

# What the four numbers are, and how a message calls them.
FORMS = {
    "corners": "x0 y0 x1 y1",
    "xywh": "x y width height",
    "centre": "the centre's x y, width height",
    "yx": "y0 x0 y1 x1",
}


def fitting(boxes: Int[np.ndarray, "m 4"], sizes: Int[np.ndarray, "m 2"]) -> Bool[np.ndarray, " m"]:
    """Which boxes obey `BOX_RULE`; a width and height of 0 is not known."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.all((low >= 0) & (low < high) & ((high <= sizes) | (sizes == 0)), axis=1)


def grouped(boxes: Int[np.ndarray, "m 4"], rows: Int[np.ndarray, " m"], count: int) -> list[Int[np.ndarray, "_ 4"]]:
    """The boxes of each of `count` images, in their order, by the row of each box's image."""
    boxes = boxes[np.argsort(rows, kind="stable")]
    return np.split(boxes, np.cumsum(np.bincount(rows, minlength=count))[:-1])


def corners(
    values: Float[np.ndarray, "m 4"], form: str, sizes: Int[np.ndarray, "m 2"]
) -> tuple[Int[np.ndarray, "m 4"], Bool[np.ndarray, " m"]]:
    """Corners of boxes in pixels, and which of them are boxes of their image.

    Each edge goes to the nearest whole pixel (halves up), a box keeps at least one pixel, and what is less than a pixel
    over an edge of the image is cut off: files hold rounded products.

    Args:
      values: in pixels.
      form: one of `FORMS`.
      sizes: width and height of each box's image; 0 where they are not known.
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


def in_pixels(
    values: Float[np.ndarray, "m 4"],
    form: str,
    sizes: Int[np.ndarray, "m 2"],
    file: str | os.PathLike[str],
    problems: Problems,
    shares: bool = False,
) -> Float[np.ndarray, "m 4"]:
    """The boxes of a whole file in pixels: where all of them lie in [0, 1] they are shares of the image, or by
    `shares` all the same.

    Raises:
      InputError: the sizes that shares need are not known, or the boxes are of another form: several are no boxes of
        their image, but all would be.
    """
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
    wrong = np.count_nonzero(~corners(values, form, sizes)[1])
    if wrong >= 2 and 10 * wrong >= len(values):
        text = f"{wrong} of {len(values)} boxes are none of their image as {FORMS[form]}"
        first, *others = [other for other in FORMS if corners(values, other, sizes)[1].all()] or [""]
        if first:
            also = "".join(f", or {FORMS[other]} ({other})" for other in others)
            cure = f"as {FORMS[first]}{also}: --config.data.folder.boxes={first}"
            raise problems.stop(file, f"{text}, but all are {cure}")
        for parts in () if shares or values.min() < 0 else (100, 1000):
            if values.max() <= parts and corners(values * sides / parts, form, sizes)[1].all():
                text += f", but all would be in shares of 1/{parts}"
                break
        pixels = "" if shares else "in pixels of the image as it is stored, or "
        problems.warn(file, f"{text}; they must be {pixels}shares of it, from 0 to 1")
    return values
