"""What files say of their own damage, as far as Pillow does not look at it: checksums; and what is raised for it."""

import zlib

import PIL.Image

from fcam_jax.errors import InputError

PNG_START = b"\x89PNG\r\n\x1a\n"
# TIFF tags, and the two numbers for compression by zlib.
_COMPRESSION, _DEFLATE = 259, (8, 32946)
_OFFSETS, _LENGTHS = (273, 324), (279, 325)  # of strips, of tiles
_PIECE = 1 << 20  # bytes that are decompressed at a time


class DamageError(ValueError):
    """A file's own checks fail, though a viewer may still show it."""


class SuspectError(InputError):
    """A JPEG that is whole, but whose data libjpeg warns of: its pixels may be right, or wrong in part."""


def check_png(data: bytes) -> None:
    """All chunks of a PNG: length (4 bytes), kind (4), content, CRC-32 of kind and content (4); the last is IEND.

    Raises:
      DamageError: a checksum is wrong or the last chunk missing.
    """
    view = memoryview(data)
    start = len(PNG_START)
    kind = b""
    while kind != b"IEND":
        kind = data[start + 4 : start + 8]
        end = start + 8 + int.from_bytes(data[start : start + 4])
        if end + 4 > len(data):
            raise DamageError("the file ends early, or the length of a part of it is wrong")
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise DamageError(f"the checksum of its part {kind.decode('ascii', 'replace')!r} is wrong")
        start = end + 4


def check_tiff(image: PIL.Image.Image, data: bytes) -> None:
    """The Adler-32 after each strip or tile of a TIFF that zlib compressed; libtiff mostly stops before it.

    Args:
      image: the file as Pillow has opened it.
      data: content of the file.

    Raises:
      DamageError: a checksum is wrong or missing.
    """
    tags = getattr(image, "tag_v2", {})
    if tags.get(_COMPRESSION) not in _DEFLATE:
        return
    offsets, lengths = (next((tags[tag] for tag in names if tag in tags), ()) for names in (_OFFSETS, _LENGTHS))
    for offset, length in zip(offsets, lengths, strict=True):
        stream, rest = zlib.decompressobj(), data[offset : offset + length]
        try:
            while rest and not stream.eof:
                stream.decompress(rest, _PIECE)
                rest = stream.unconsumed_tail
        except zlib.error as error:
            raise DamageError(f"its compressed pixels cannot be right: {error}") from error
        if not stream.eof:
            raise DamageError("its compressed pixels end early")
