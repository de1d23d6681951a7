"""Mask files: which of their pixels are the object, and what looks as if it were not meant so."""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Bool, Int, Shaped

from fcam_jax.data.images import decode_image, is_jpeg, opened, read_bytes
from fcam_jax.errors import InputError

OF = ("", "bright", "dark", "alpha", "index")
_LOSSY = ("WEBP", "AVIF", "JPEG2000")  # and JPEG
_GRAYS = 16  # more of them are neither black and white nor the numbers of objects
_SMALL = 100  # numbers of classes or objects, beside which 255 is no number
_BORDER = 0.9  # share of the border that an object hardly covers and its background does
_AGREE = 0.3  # intersection over union of mask and boxes, below which one of them is elsewhere


@dataclasses.dataclass(frozen=True)
class MaskRule:
    """Which pixels of a mask file are the object; see the settings `mask_...` of `folder.Folder`."""

    of: str = ""
    threshold: float = -1.0
    undecided: float = -1.0

    def by_value(self) -> bool:
        """Whether one value alone is the object."""
        return self.of.isdecimal()


@dataclasses.dataclass(frozen=True)
class MaskFile:
    """A decoded mask file."""

    object: Bool[np.ndarray, "h w"]  # where the object is
    undecided: Bool[np.ndarray, "h w"] | None  # where it may be, by the value that the rule names
    values: Shaped[np.ndarray, "h w"]  # what it was told by
    of: str  # the kind of these values, of `OF`, or the one that is the object
    exact: bool  # whether the file keeps values as they were

    def doubts(self) -> list[str]:
        """What its values speak of that is no mask."""
        if self.of == "alpha":
            return ["its mask is where a mask file's alpha is high, whatever the colours (these: mask_is=bright)"]
        if not self.exact or self.of != "bright" or not self.object.any():
            return []
        known = self.values if self.undecided is None else self.values[~self.undecided]
        grays = np.unique(known).tolist()
        faint = bool(self.object[self.values < grays[-1] / 2].any())
        if len(grays) > _GRAYS:
            text = f"a mask file has {len(grays)} gray values, and all but the lowest are the object"
            return [f"{text} (of a mask that was smoothed or compressed: mask_threshold=127)"] if faint else []
        shown = ", ".join(f"{gray:g}" for gray in grays)
        if len(grays) > 1 and self.object.all():
            text = f"a mask file has the values {shown} and no 0, so all is the object"
            rim = f"; of a rim: mask_undecided={grays[-1]:g}" if len(grays) > 2 else ""
            return [f"{text} (of one alone: mask_is={grays[0]:g}{rim})"]
        if len(grays) > 2 and grays[-1] == 255 and grays[-2] <= _SMALL and faint:
            text = f"a mask file has the value 255 beside {shown.rpartition(', ')[0]}, and both are the object"
            return [f"{text} (where 255 is undecided: mask_undecided=255)"]
        if len(grays) == 3 and grays[0] == 0 and grays[-1] == 255 and self.object[self.values == grays[1]].any():
            text = f"a mask file has the value {grays[1]:g} between 0 and 255, and it is the object"
            return [f"{text} (where it is undecided: mask_undecided={grays[1]:g})"]
        return []


def decode_mask(data: bytes, name: str, rule: MaskRule = MaskRule()) -> MaskFile:
    """Decode the bytes of a mask file. Raises InputError: as for `decode_image`; the file has no alpha that the rule
    asks for, or its format changes values and the rule names one.
    """
    alpha, indexed = None, rule.of == "index" or rule.by_value()
    if is_jpeg(data):
        values, exact = decode_image(data, name).max(axis=-1), False
    else:
        with opened(data, name) as image:
            exact = image.format not in _LOSSY
            image.load()
            if image.mode == "1":
                values = np.asarray(image) * np.uint8(255)
            elif image.mode == "L" or image.mode[0] in "IF" or (image.mode == "P" and indexed):
                values = np.asarray(image)
            else:
                rgba = np.asarray(image.convert("RGBA"))
                values, alpha = rgba[..., :3].max(axis=-1), rgba[..., 3]
    of = rule.of or ("alpha" if alpha is not None and alpha.min() < alpha.max() else "bright")
    if of == "alpha":
        if alpha is None:
            raise InputError(f"{name}: has no alpha channel, so the object cannot be told by it (mask_is)")
        values = alpha
    if not exact and (rule.by_value() or rule.undecided != -1):
        raise InputError(f"{name}: its format changes values, so none can be named (mask_is, mask_undecided)")
    threshold = rule.threshold if rule.threshold != -1 else 0 if exact and of != "alpha" else 127
    found = values == int(of) if rule.by_value() else values <= threshold if of == "dark" else values > threshold
    undecided = None if rule.undecided == -1 else values == rule.undecided
    return MaskFile(found if undecided is None else found & ~undecided, undecided, values, of, exact)


def read_mask(path: pathlib.Path, rule: MaskRule = MaskRule()) -> Bool[np.ndarray, "h w"]:
    """Where the object is by a mask file; raises as `decode_mask` and `read_bytes`."""
    return decode_mask(read_bytes(path), str(path), rule).object


def doubts_of(mask: Bool[np.ndarray, "h w"], boxes: Int[np.ndarray, "n 4"] | None, size: tuple[int, int]) -> list[str]:
    """What speaks against an image's mask, which is not empty: boxes are in pixels of the image's width and height."""
    height, width = mask.shape
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if mask.all():
        return ["its mask covers the whole image (where objects are dark: mask_is=dark)"]
    if border.mean() > _BORDER:
        return ["its mask covers the border of the image, and not all of its middle (inverted: mask_is=dark)"]
    if boxes is None or not len(boxes):
        return []
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    low = np.array([columns[0] / width, rows[0] / height])
    high = np.array([(columns[-1] + 1) / width, (rows[-1] + 1) / height])
    first, last = boxes[:, :2].min(axis=0) / size, boxes[:, 2:].max(axis=0) / size
    common = np.prod(np.maximum(np.minimum(high, last) - np.maximum(low, first), 0))
    iou = common / (np.prod(high - low) + np.prod(last - first) - common)
    return [f"its mask and its boxes lie in different places (IoU {iou:.2f})"] if iou < _AGREE else []
