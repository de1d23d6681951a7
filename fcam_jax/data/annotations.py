"""Ground truth from an image's own pixels to the frame of its score map, by the rules of the evaluation protocol.

In: the boxes and masks of a `Record`. Out: an `Annotation` for a square score map, or for a crop out of a square image.
Protocol: Choe et al., CVPR 2020.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int, UInt8

from fcam_jax.data.source import Record
from fcam_jax.data.transforms import Crop, cut_out
from fcam_jax.types import OBJECT, UNDECIDED, Annotation


def annotate(record: Record, size: int) -> Annotation:
    """The annotation of a record in the frame of a `size` x `size` score map.

    Pixels that are both object and undecided count as object.
    """
    boxes, mask, ignore = record.boxes, record.mask, record.ignore
    if boxes is not None:
        height, width = record.image.shape[:2]
        boxes = rescale_boxes(boxes, (width, height), (size, size))
    if mask is not None:
        mask = resize_mask(mask, size)
    if ignore is not None:
        ignore = resize_mask(ignore, size)
        ignore = ignore if mask is None else ignore & ~mask
    return Annotation(record.image_id, record.label, boxes, mask, ignore)


def crop_annotation(annotation: Annotation, side: int, crop: Crop) -> Annotation:
    """The annotation of a crop of `side` x `side` pixels: what of boxes and masks lies in it, mirrored as it is.

    Boxes keep the pixels that they share with the crop, both corners included; those that share none are gone.
    """
    boxes, mask, ignore = annotation.boxes, annotation.mask, annotation.ignore
    if boxes is not None:
        corners = boxes - np.array([crop.left, crop.top] * 2)
        corners = corners[np.all((corners[:, 2:] >= 0) & (corners[:, :2] < side), axis=1)].clip(0, side - 1)
        boxes = (
            (side - 1) * np.array([1, 0, 1, 0]) + corners[:, [2, 1, 0, 3]] * [-1, 1, -1, 1]
            if crop.mirrored
            else corners
        )
    return dataclasses.replace(
        annotation,
        boxes=boxes,
        mask=None if mask is None else cut_out(mask, side, crop),
        ignore=None if ignore is None else cut_out(ignore, side, crop),
    )


def object_map(annotation: Annotation, side: int) -> UInt8[np.ndarray, "{side} {side}"]:
    """Where the object is, for a loss: `OBJECT` on it, `UNDECIDED` where its mask does not say, 0 elsewhere.

    The object is the mask or, without one, all that lies in any of the boxes, both corners included.

    Args:
      annotation: in the frame of the map.
      side: of the map in pixels.
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

    Args:
      boxes: corners ``x0, y0, x1, y1`` in pixels, none negative.
      from_size: width and height of their frame.
      to_size: width and height of the new frame.

    Returns:
      Corners in the new frame; read as inclusive by the metrics.

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
