"""What is found when the files of a split are opened: whether all can be decoded, and are as the data set says.

In: the metadata of a split. Out: size and checksum of every image; problems go to a collector.
"""

import concurrent.futures
import dataclasses
import hashlib
import io
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import PIL.Image

from fcam_jax.data.checksums import SuspectError
from fcam_jax.data.folder import check_size, read_masks
from fcam_jax.data.images import decode_image
from fcam_jax.data.layouts.metadata import Metadata
from fcam_jax.data.layouts.problems import Problem, Problems
from fcam_jax.errors import InputError
from fcam_jax.runtime.progress import counted
from fcam_jax.types import Image

_ORIENTATION = 0x0112
_ASPECT = 0.02  # relative difference between image and mask that rounding to other resolutions may make
_AT_ONCE = 1024  # images whose results wait for those before them


@dataclasses.dataclass(frozen=True)
class Inspected:
    """What an image file is.

    Attributes:
      size: width and height; 0 where it cannot be opened.
      checksum: SHA-256 of the file; empty where it was not read as a whole.
      problems: of the image and its masks.
    """

    size: tuple[int, int]
    checksum: str
    problems: tuple[Problem, ...]


@dataclasses.dataclass(frozen=True)
class Inspection:
    """How images are looked at.

    Attributes:
      quick: read no more than the headers of images.
      upright: images are meant as their EXIF orientation says.
      workers: number of threads.
    """

    quick: bool = False
    upright: bool = False
    workers: int = 4

    def split(self, metadata: Metadata, images: pathlib.Path, title: str, problems: Problems) -> list[Inspected]:
        """Look at all images without an error, in their order.

        Args:
          metadata: of the split.
          images: folder that the paths of images start from.
          title: of the progress bar.
          problems: is told what is found; what it knows already says which images have an error.
        """
        broken = problems.images()
        rows = [row for row, image_id in enumerate(metadata.image_ids) if image_id not in broken]
        results = {row: Inspected((0, 0), "", ()) for row in range(len(metadata.image_ids))}
        found = counted(self._all(metadata, images, rows), title, len(rows), "images")
        for row, inspected in zip(rows, found, strict=True):
            results[row] = inspected
            problems.found.extend(inspected.problems)
        return list(results.values())

    def _all(self, metadata: Metadata, images: pathlib.Path, rows: list[int]) -> Iterator[Inspected]:
        with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
            for start in range(0, len(rows), _AT_ONCE):
                yield from pool.map(lambda row: self.image(metadata, images, row), rows[start : start + _AT_ONCE])

    def image(self, metadata: Metadata, images: pathlib.Path, row: int) -> Inspected:
        """Look at one image and its masks."""
        image_id = metadata.image_ids[row]
        path = images / (metadata.paths or metadata.image_ids)[row]
        problems = Problems()
        size, checksum = (0, 0), ""
        try:
            if self.quick:
                size, orientation = _header(path, path)
            else:
                data = _content(path)
                checksum = hashlib.sha256(data).hexdigest()
                if metadata.checksums and metadata.checksums[row] not in ("", checksum):
                    raise InputError(f"{path}: is damaged or was exchanged: its SHA-256 is not the one of the manifest")
                height, width = _decoded(data, path, image_id, problems).shape[:2]
                size, orientation = (width, height), _header(io.BytesIO(data), path)[1]
            if orientation in range(2, 9):
                _report_orientation(problems, path, image_id, orientation, self.upright)
                size = size[::-1] if self.upright and orientation > 4 else size
            check_size(metadata, row, path, size)
            if not self.quick:
                _check_masks(metadata, images, row, size, problems)
        except InputError as error:
            problems.error(path, str(error).removeprefix(f"{path}: "), image_id=image_id)
        return Inspected(size, checksum, tuple(problems.found))


def _content(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _decoded(data: bytes, path: pathlib.Path, image_id: str, problems: Problems) -> Image:
    """The pixels; a JPEG that libjpeg only warns of is one to look at."""
    try:
        return decode_image(data, str(path))
    except SuspectError as error:
        problems.warn(path, str(error).removeprefix(f"{path}: "), image_id=image_id)
        return decode_image(data, str(path), trusted=True)


def _header(file: os.PathLike[str] | io.BytesIO, path: pathlib.Path) -> tuple[tuple[int, int], int]:
    """Width, height and EXIF orientation, 1 where there is none."""
    try:
        with PIL.Image.open(file) as image:
            size = image.size
            try:
                return size, image.getexif().get(_ORIENTATION, 1)
            except Exception:  # broken EXIF is as good as none
                return size, 1
    except Exception as error:  # the parsers in Pillow raise what they stumble over
        raise InputError(f"{path}: not an image, or of unknown format") from error


def _report_orientation(problems: Problems, path: pathlib.Path, image_id: str, orientation: int, upright: bool) -> None:
    if not upright:
        text = f"EXIF orientation {orientation}; boxes and masks are taken to be those of the stored pixels"
        problems.warn(path, f"{text} (of upright ones: --config.data.upright=True)", image_id=image_id)


def _check_masks(metadata: Metadata, images: pathlib.Path, row: int, size: tuple[int, int], problems: Problems) -> None:
    image_id = metadata.image_ids[row]
    path = images / (metadata.paths or metadata.image_ids)[row]
    mask, ignore = read_masks(metadata, images, row)
    if mask is not None and not mask.any():
        problems.error(path, "its mask is black everywhere", image_id=image_id)
    for name, plane in (("mask", mask), ("ignore mask", ignore)):
        if plane is not None and abs(np.log(plane.shape[1] * size[1] / (plane.shape[0] * size[0]))) > _ASPECT:
            text = f"has {size[0]} x {size[1]} pixels, its {name} {plane.shape[1]} x {plane.shape[0]}: another shape"
            problems.warn(path, text, image_id=image_id)
