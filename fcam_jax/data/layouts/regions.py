"""Regions of an image as COCO's files write them, polygons or run lengths, to masks and back.

Run lengths go down the columns and start with the background; `counts` is a list of them or COCO's string.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool

from fcam_jax.errors import extra

# Of one mask. Run lengths of any size take a few bytes in a file, and all of the memory here.
MAX_PIXELS = 10**8


@dataclasses.dataclass(frozen=True)
class Region:
    """Pixels of a frame, decoded when they are asked for."""

    height: int  # of the frame
    width: int  # of the frame
    # corners ``x, y, x, y, ...`` of each polygon in pixels, or None
    polygons: tuple[list[int | float], ...] | None = None
    runs: tuple[int, ...] | None = None  # lengths of background and foreground by turns, or None

    def mask(self) -> Bool[np.ndarray, "h w"]:
        """True in the region; polygons are filled as by COCO's program."""
        runs = self.runs
        if runs is None:
            coco = _coco()
            parts = coco.frPyObjects(list(self.polygons or ()), self.height, self.width)
            # Its own decoder warns with every version of NumPy from 2 on.
            runs = tuple(_unpacked(coco.merge(parts)["counts"].decode()) or ())
        filled = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return filled.reshape(self.width, self.height).T


def parse_region(value: Any, size: tuple[int, int]) -> Region:
    """A region as it stands in a COCO file: a list of polygons, or an object with run lengths.

    Polygons lie in the image, run lengths have its `size`, width and height. Raises ValueError: it is none of these.
    """
    width, height = size
    if isinstance(value, dict):
        region = parse_runs(value)
        if (region.width, region.height) != size:
            found = f"run lengths of {region.width} x {region.height} pixels"
            raise ValueError(f"{found}, the image has {width} x {height}")
        return region
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of polygons or run lengths")
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"polygons need an image of 1 to {MAX_PIXELS} pixels, its width and height stated")
    for polygon in value:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon must be a list of 3 or more pairs x, y")
        points = np.array(polygon)  # of nested lists of several lengths, it raises a ValueError
        if points.ndim != 1 or points.dtype.kind not in "if" or not np.isfinite(points).all():
            raise ValueError("a polygon holds what is not a number")
        shares = points.reshape(-1, 2) / size
        if shares.min() < -1 or shares.max() > 2:
            raise ValueError("a polygon lies far outside its image")
    return Region(height, width, polygons=tuple(value))


def parse_runs(value: dict[str, Any]) -> Region:
    """A region by its run lengths, ``{"size": [height, width], "counts": ...}``. Raises ValueError: it is none; the
    message says why.
    """
    size, counts = value.get("size"), value.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)):
        raise ValueError('run lengths need "size": [height, width]')
    height, width = size
    if height * width > MAX_PIXELS:
        raise ValueError(f"run lengths of more than {MAX_PIXELS} pixels")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(n) is int and n >= 0 for n in runs):
        raise ValueError('run lengths need "counts": whole numbers from 0, or COCO\'s string of them')
    if sum(runs) != height * width:
        raise ValueError(f"run lengths of {sum(runs)} pixels in all, but the size is {width} x {height}")
    return Region(height, width, runs=tuple(runs))


def run_lengths(mask: Bool[np.ndarray, "h w"]) -> dict[str, Any]:
    """A mask as `parse_runs` reads it."""
    packed = _coco().encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(map(int, packed["size"])), "counts": packed["counts"].decode()}


def _coco() -> Any:
    with extra("coco", "a mask of COCO"):
        import pycocotools.mask
    return pycocotools.mask


def _unpacked(text: str) -> list[int] | None:
    """Run lengths from COCO's string: 5 bits a character, lowest first, from the fourth on as differences to the last
    but one. pycocotools trusts what it is given, so it is not asked.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 35:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16 and 1) << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value, shift = 0, 0
    return counts if shift == 0 else None
