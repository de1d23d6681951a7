"""From a decoded image to the pixels that the network sees, and from its boxes and masks to the frame of the score map.

Training: `resize` to a square that is larger than the crop, then `cut_out` of a `random_crop`. Evaluation: `resize` to
the final square at once. The aspect ratio is not kept. Reference: F-CAM (WACV 2022), experimental setting; for boxes
and masks the protocol of Choe et al. (CVPR 2020).
"""

import dataclasses
import math
from typing import no_type_check

import cv2
import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8

from fcam_jax.data.source import Record
from fcam_jax.runtime.compiled import compiled
from fcam_jax.types import OBJECT, UNDECIDED, Annotation, Image

_BITS = 22  # of the weights' fixed-point fractions, as in Pillow


def resize(image: Image, side: int) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """An image at `side` x `side` pixels, by Pillow's bilinear filter (which averages when it shrinks).

    Width, then height, or height first where it shrinks by more than twice as many pixels as the width. The order is
    that of Pillow 13, and tells: pixels are rounded to 8 bits in between.
    """
    height, width = image.shape[:2]
    image = np.ascontiguousarray(image)
    tall = height > side and height - side > 2 * (width - side)
    if tall:
        image = _resized_height(image, side)
    if width != side:
        # The filter is fast over whole rows; to transpose twice costs less than to go along the columns.
        image = cv2.transpose(_resized_height(cv2.transpose(image), side))
    return image if tall else _resized_height(image, side)


def _resized_height(image: Image, side: int) -> UInt8[np.ndarray, "{side} w 3"]:
    height, width = image.shape[:2]
    if height == side:
        return image
    return _resized_rows(image.reshape(height, width * 3), side).reshape(side, width, 3)


@compiled
@no_type_check
def _resized_rows(rows, side):
    """Rows of bytes [n, width] brought to `side` rows, as by one pass of Pillow, in a fraction of its time.

    Row i becomes the mean of rows j with weights max(0, 1 - |j + 1/2 - c| / r), where c = (i + 1/2) n / side and
    r = max(1, n / side): the filter averages when it shrinks. Weights and means are rounded as in Pillow.
    """
    before, width = rows.shape
    scale = before / side
    reach = max(scale, 1.0)
    result = np.empty((side, width), np.uint8)
    sums = np.empty(width, np.int32)
    shares = np.empty(2 * math.ceil(reach) + 1)
    for i in range(side):
        centre = (i + 0.5) * scale
        low, high = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), before)
        total = 0.0
        for j in range(low, high):
            shares[j - low] = max(1.0 - abs((j - centre + 0.5) * (1.0 / reach)), 0.0)
            total += shares[j - low]
        sums[:] = 1 << (_BITS - 1)
        for j in range(low, high):
            weight = np.int32(0.5 + shares[j - low] / total * (1 << _BITS))
            for x in range(width):
                sums[x] += np.int32(rows[j, x]) * weight
        for x in range(width):
            result[i, x] = min(sums[x] >> _BITS, 255)  # the sum of a million rounded weights may exceed 1
    return result


@dataclasses.dataclass(frozen=True)
class Crop:
    """A square out of an image by its first row and column, perhaps mirrored left to right after it was cut out."""

    top: int
    left: int
    mirrored: bool


def random_crop(height: int, width: int, side: int, rng: np.random.Generator) -> Crop:
    """A uniformly placed square of `side` pixels in an image that is no smaller; mirrored with probability one half."""
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    return Crop(int(top), int(left), bool(rng.random() < 0.5))


def cut_out(
    image: Shaped[np.ndarray, "h w *channels"], side: int, crop: Crop
) -> Shaped[np.ndarray, "{side} {side} *channels"]:
    """The pixels of a crop of `side` x `side` pixels, of an image or a mask."""
    pixels = image[crop.top : crop.top + side, crop.left : crop.left + side]
    if not crop.mirrored:
        return pixels
    # A view with reversed columns would be copied pixel by pixel when it is put into a batch.
    return cv2.flip(pixels.view(np.uint8), 1).view(pixels.dtype)


def annotate(record: Record, size: int) -> Annotation:
    """The annotation of a record in the frame of a `size` x `size` score map.

    Pixels that are both object and undecided count as object.
    """
    boxes, mask, ignore = record.boxes, record.mask, record.ignore
    if boxes is not None:
        height, width = record.image.shape[:2]
        boxes = rescale_boxes(boxes, (width, height), (size, size))
    mask = None if mask is None else resize_mask(mask, size)
    ignore = None if ignore is None else resize_mask(ignore, size)
    if ignore is not None and mask is not None:
        ignore &= ~mask
    return Annotation(record.image_id, record.label, boxes, mask, ignore)


def crop_annotation(annotation: Annotation, side: int, crop: Crop) -> Annotation:
    """The annotation of a crop of `side` x `side` pixels: what of boxes and masks lies in it, mirrored as it is.

    Boxes keep the pixels that they share with the crop, both corners included; those that share none are gone.
    """
    boxes, mask, ignore = annotation.boxes, annotation.mask, annotation.ignore
    if boxes is not None:
        corners = boxes - np.array([crop.left, crop.top] * 2)
        corners = corners[np.all((corners[:, 2:] >= 0) & (corners[:, :2] < side), axis=1)].clip(0, side - 1)
        mirrored = (side - 1) * np.array([1, 0, 1, 0]) + corners[:, [2, 1, 0, 3]] * [-1, 1, -1, 1]
        boxes = mirrored if crop.mirrored else corners
    mask, ignore = (None if one is None else cut_out(one, side, crop) for one in (mask, ignore))
    return dataclasses.replace(annotation, boxes=boxes, mask=mask, ignore=ignore)


def object_map(annotation: Annotation, side: int) -> UInt8[np.ndarray, "{side} {side}"]:
    """Where the object is, for a loss: `OBJECT` on it, `UNDECIDED` where its mask does not say, 0 elsewhere.

    The object is the mask or, without one, all that lies in any of the boxes, both corners included.
    """
    found = np.zeros((side, side), np.uint8)
    if annotation.mask is None:
        for x0, y0, x1, y1 in annotation.boxes if annotation.boxes is not None else ():
            found[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1] = OBJECT
        return found
    if annotation.ignore is not None:
        found[annotation.ignore] = UNDECIDED
    found[annotation.mask] = OBJECT
    return found


def rescale_boxes(
    boxes: Int[np.ndarray, "n 4"], from_size: tuple[int, int], to_size: tuple[int, int]
) -> Int[np.ndarray, "n 4"]:
    """Boxes in a frame of another size, neither clipped nor grown.

    $$ c' = \\lfloor c \\cdot to / from \\rfloor $$

    Boxes are corners ``x0, y0, x1, y1`` in pixels, none negative, read as inclusive by the metrics; sizes are width and
    height.

    Reference: Choe et al., CVPR 2020, released program: ``int(c * to / from)``, the same for non-negative corners.
    """
    return boxes * np.tile(to_size, 2) // np.tile(from_size, 2)


def resize_mask(mask: Bool[np.ndarray, "h w"], size: int) -> Bool[np.ndarray, "{size} {size}"]:
    """A mask at `size` x `size` pixels by OpenCV's nearest neighbour.

    $$ source(i) = \\min(\\lfloor i \\cdot (1 / (size / src)) \\rfloor, src - 1) $$

    Reference: OpenCV's INTER_NEAREST, the resize of the protocol's released program.
    Differs from: exact rational indices (for 210 source sizes below 3000 at size 224) and Pillow's nearest neighbour.
    """
    rows, columns = (_nearest(length, size) for length in mask.shape)
    return mask[np.ix_(rows, columns)]


def _nearest(source: int, size: int) -> Int[np.ndarray, " {size}"]:
    step = 1.0 / (size / source)  # the two roundings are OpenCV's; source / size has one
    return np.minimum(np.floor(np.arange(size) * step).astype(np.int64), source - 1)
