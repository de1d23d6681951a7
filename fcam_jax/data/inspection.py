"""What the files of one image are: whether they can be read, are as the data set says, and look as they should."""

import collections
import dataclasses
import io
import pathlib
import re
from collections.abc import Sequence

import numpy as np
import PIL.Image

from fcam_jax.data.folder import Described
from fcam_jax.data.images import WINDOW, SuspectError, decode_image, deep_values, orientation_of, read_bytes
from fcam_jax.data.layouts.problems import Problem, Problems
from fcam_jax.data.masks import MaskFile, MaskRule, decode_mask, doubts_of
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import IMAGE, open_regular, reason

_ASPECT = 0.02  # relative difference between image and mask that rounding to other resolutions may make
_FLAT = 0.25  # share of the range of values that an image hardly ever stays within


@dataclasses.dataclass
class Inspected:
    """What an image file is."""

    size: tuple[int, int] = (0, 0)  # width and height; 0 where it cannot be opened
    checksum: str = ""  # SHA-256 of the file; empty where it was not read as a whole
    problems: Sequence[Problem] = ()  # of the image and its masks
    doubts: Sequence[str] = ()  # what should be looked at, which other images may share
    # lowest and highest, and the highest there could be; None where they were not read
    values: tuple[float, float, int] | None = None


def inspect(split: Described, row: int, decoded: bool) -> Inspected:
    """Look at one image and its masks."""
    image_id, path = split.metadata.image_ids[row], split.path(row)
    problems, found, doubts = Problems(), Inspected(), list[str]()
    try:
        if decoded:
            data = read_bytes(path)
            found.checksum = split.metadata.check_content(row, path, data)
            found.size, found.values = _decoded(split, data, path, image_id, problems)
            orientation = _header(io.BytesIO(data), path)[1]
        else:
            with open_regular(path, IMAGE) as file:
                found.size, orientation = _header(file, path)
        upright = split.data.upright
        if upright and orientation > 4:
            found.size = found.size[::-1]
        elif orientation > 1 and not upright:
            text = f"EXIF orientation {orientation}; boxes and masks are taken to be those of the stored pixels"
            doubts.append(f"{text} (of upright ones: --config.data.upright=True)")
        split.metadata.check_size(row, path, found.size)
        if decoded:
            doubts += _check_masks(split, row, found.size, problems)
    except OSError as error:
        problems.error(path, f"cannot be read: {reason(error)}", image_id=image_id)
    except InputError as error:
        problems.error(path, str(error).removeprefix(f"{path}: "), image_id=image_id)
    if problems.images() and found.size == (0, 0):
        found.checksum = ""  # what is no image has no twin
    found.problems, found.doubts = problems.found, doubts
    return found


def _decoded(
    split: Described, data: bytes, path: pathlib.Path, image_id: str, problems: Problems
) -> tuple[tuple[int, int], tuple[float, float, int]]:
    """Size and range of values of the stored pixels; a JPEG that libjpeg only warns of is one to look at."""
    try:
        pixels = decode_image(data, str(path), window=split.data.window)
    except SuspectError as error:
        problems.warn(path, str(error).removeprefix(f"{path}: "), image_id=image_id)
        pixels = decode_image(data, str(path), trusted=True)
    size = (pixels.shape[1], pixels.shape[0])
    deep = None if split.data.window else deep_values(data, str(path))
    if deep is None:
        return size, (float(pixels.min()), float(pixels.max()), 255)
    low, high = np.percentile(deep, (0.1, 99.9), method="lower")  # a hot pixel says nothing of the range
    return size, (float(low), float(high), 65535)


def _header(file: io.BytesIO | io.BufferedReader, path: pathlib.Path) -> tuple[tuple[int, int], int]:
    """Width, height and EXIF orientation."""
    try:
        with PIL.Image.open(file) as image:
            return image.size, orientation_of(image)
    except Exception as error:  # the parsers in Pillow raise what they stumble over
        raise InputError(f"{path}: not an image, or of unknown format") from error


def _check_masks(split: Described, row: int, size: tuple[int, int], problems: Problems) -> list[str]:
    """Doubts about the masks of an image; an error where there is no object in them."""
    mask, ignore = split.masks(row)
    rule, doubts = split.mask_rule, []
    if mask is not None:
        paths = [split.place.images / one for one in split.metadata.masks_of(row).instances if isinstance(one, str)]
        files = [decode_mask(read_bytes(path), str(path), rule) for path in paths]
        if mask.any():
            doubts += [doubt for file in files for doubt in file.doubts()]
            if not (doubts and mask.all()):  # the file's values have told it
                doubts += doubts_of(mask, split.metadata.boxes_of(row), size)
            if ignore is not None and ignore.shape == mask.shape and not mask.all() and (mask | ignore).all():
                doubts.append("its mask and what is undecided leave no background")
        else:
            text = f"its mask {_without_object(files, rule)}"
            problems.error(split.path(row), text, image_id=split.metadata.image_ids[row])
    for name, plane in (("mask", mask), ("ignore mask", ignore)):
        if plane is not None and abs(np.log(plane.shape[1] * size[1] / (plane.shape[0] * size[0]))) > _ASPECT:
            shape = f"{plane.shape[1]} x {plane.shape[0]}"
            doubts.append(f"has {size[0]} x {size[1]} pixels, its {name} {shape}: another shape")
    return doubts


def _without_object(files: Sequence[MaskFile], rule: MaskRule) -> str:
    """Why the mask files of an image have no object, and which setting would give them one."""
    there = np.unique(np.concatenate([np.unique(file.values) for file in files])) if files else np.zeros(1)
    if not there.any():
        return "is black everywhere"
    text = "is black everywhere" if rule == MaskRule() else "has no object by mask_is, mask_threshold, mask_undecided"
    if rule.by_value():
        return f"{text}; its values are {', '.join(f'{value:g}' for value in there[:9])}"
    if rule.of == "dark":
        return f"{text}; its lowest value is {there[0]:g} (--config.data.folder.mask_threshold={there[0]:g})"
    return f"{text}; its highest value is {there[-1]:g} (--config.data.folder.mask_threshold=0)"


def warn_of_doubts(split: Described, inspected: Sequence[Inspected]) -> None:
    """One warning for all images that a doubt, whatever its numbers, applies to."""
    rows = collections.defaultdict(list)
    for row, one in enumerate(inspected):
        for doubt in one.doubts:
            rows[re.sub(r"[\d.]+", "0", doubt)].append((row, doubt))
    for (row, doubt), *others in rows.values():
        more = f" (and {len(others)} more images of {split.name})" if others else ""
        split.problems.warn(split.path(row), f"{doubt}{more}")


def warn_of_range(split: Described, inspected: Sequence[Inspected]) -> None:
    """One warning for all images, of a number of bits, that have a small part of the values that there could be."""
    for top in (255, 65535):
        seen = [(row, one.values) for row, one in enumerate(inspected) if one.values and one.values[2] == top]
        flat = [(row, low, high) for row, (low, high, _) in seen if 0 < high - low <= _FLAT * (top + 1)]
        if not flat:
            continue
        low, high = min(low for _, low, _ in flat), max(high for _, _, high in flat)
        text = f"{len(flat)} {top.bit_length()}-bit images like this have values of {low:g} to {high:g} alone"
        if top == 255:
            cure = "values from 0 to 1 should be 0 to 255" if high <= 1 else "save them in their full range"
        else:
            used = int(high).bit_length()
            window = f"0,{2 ** (used + used % 2) - 1}" if low < high / 4 else f"{low:g},{high:g}"
            cure = f"the values of black and white: {WINDOW}={window}"
        split.problems.warn(split.path(flat[0][0]), f"{text}: nearly of one gray ({cure})")
