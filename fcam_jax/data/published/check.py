"""Every image and mask of a split decoded and compared with the metadata, in threads; what is done is noted down.

The notes are a file with a row for each image, written once it has been found to be good: a call that follows an
interrupted one looks only at the others.
"""

import concurrent.futures
import dataclasses
import hashlib
import pathlib

import numpy as np
from jaxtyping import Bool, Int

from fcam_jax.data.images import SuspectError, decode_image
from fcam_jax.data.layouts.metadata import Metadata
from fcam_jax.data.masks import decode_mask
from fcam_jax.data.published.files import WsolFiles
from fcam_jax.errors import InputError
from fcam_jax.runtime.progress import progress_bar
from fcam_jax.types import Image

_ROW = np.dtype([("asked", "<u8"), ("digest", "<u8"), ("bytes", "<u8")])
_AT_ONCE = 64  # images for each thread before the results are noted down


@dataclasses.dataclass(frozen=True)
class Raw:
    """The files of one image as they are stored: image, a mask for each object, that of undecided pixels or nothing."""

    image: bytes
    masks: tuple[bytes, ...]
    ignore: bytes

    def digest(self) -> int:
        """64 bits that tell the files from others; not 0."""
        return _hash(b"".join(b"%d,%b" % (len(data), data) for data in (self.image, *self.masks, self.ignore)))


class CheckedSplit:
    """A split whose files are being checked; `notes` is made where it is not there or of another length."""

    def __init__(self, files: WsolFiles, metadata: Metadata, notes: pathlib.Path):
        self.files, self.metadata = files, metadata
        self.suspect: dict[int, str] = {}  # what libjpeg warns of in images that are good all the same, by position
        count = len(metadata.image_ids)
        if not notes.exists() or notes.stat().st_size != count * _ROW.itemsize:
            notes.write_bytes(bytes(count * _ROW.itemsize))
        self._rows = np.memmap(notes, _ROW, "r+", shape=(count,))
        self._asked = np.fromiter(map(self._question, range(count)), np.uint64, count)

    @property
    def good(self) -> Bool[np.ndarray, " n"]:
        """Which images have been checked and can be used."""
        return self._rows["asked"] == self._asked

    @property
    def byte_counts(self) -> Int[np.ndarray, " n"]:
        """Bytes of the files of each good image."""
        return self._rows["bytes"].astype(np.int64)

    def digest(self, index: int) -> int:
        """`Raw.digest` of a good image, when it was checked."""
        return int(self._rows["digest"][index])

    def check(self, workers: int, title: str) -> dict[int, str]:
        """Check what has not been checked, in threads; says by position what is wrong with images."""
        todo = np.flatnonzero(~self.good).tolist()
        problems: dict[int, str] = {}
        step = _AT_ONCE * workers
        with (
            progress_bar(title, len(self._rows), "image", done=len(self._rows) - len(todo)) as bar,
            concurrent.futures.ThreadPoolExecutor(workers) as pool,
        ):
            for first in range(0, len(todo), step):
                some = todo[first : first + step]
                for index, problem in zip(some, pool.map(self._try, some), strict=True):
                    problems |= {index: problem} if problem else {}
                    bar.update()
        return problems

    def read(self, index: int) -> Raw:
        """The files of a good image. Raises InputError: they cannot be read, or are not those that were checked."""
        raw = self._raw(index)
        if raw.digest() != self.digest(index):
            self._rows[index] = 0
            raise InputError(f"{self.metadata.image_ids[index]}: has changed since it was checked; start again")
        return raw

    def _try(self, index: int) -> str | None:
        """Check one image and note it down; returns what is wrong."""
        try:
            raw = self._raw(index, decoded=True)
        except InputError as error:
            return str(error)
        row = self._rows[index : index + 1]
        row["digest"], row["bytes"] = raw.digest(), len(raw.image) + sum(map(len, raw.masks)) + len(raw.ignore)
        row["asked"] = self._asked[index]  # last: it makes the row valid
        return None

    def _raw(self, index: int, decoded: bool = False) -> Raw:
        """The files of an image; `decoded`: checked as well."""
        metadata = self.metadata
        image, name = self.files.read(metadata.image_ids[index])
        if decoded:
            height, width = self._decoded(index, image, name).shape[:2]
            metadata.check_size(index, pathlib.Path(name), (width, height))
        masks = metadata.masks_of(index)
        instances, ignores = ([self.files.read(str(name)) for name in some] for some in (masks.instances, masks.ignore))
        if decoded:
            shapes = {decode_mask(*instance).object.shape for instance in instances}
            if len(shapes) > 1:
                raise InputError(f"{name}: its masks are not of one size")
            for ignore in ignores:
                decode_mask(*ignore)
        return Raw(image, tuple(data for data, _ in instances), b"".join(data for data, _ in ignores))

    def _decoded(self, index: int, image: bytes, name: str) -> Image:
        """The pixels; what libjpeg only warns of was published so, and belongs to the published figures."""
        try:
            return decode_image(image, name)
        except SuspectError as error:
            self.suspect[index] = str(error)
            return decode_image(image, name, trusted=True)

    def _question(self, index: int) -> int:
        """What is asked of an image: a row that answers another question does not count."""
        metadata = self.metadata
        size = metadata.sizes[index].tolist() if metadata.sizes is not None else None
        masks = metadata.masks[index] if metadata.masks is not None else None
        return _hash(repr((metadata.image_ids[index], size, masks)).encode())


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") | 1
