"""Image files to uint8 RGB arrays, with one clear error for whatever cannot be decoded.

Pixels come as they are stored: EXIF orientation is not applied unless it is asked for, because boxes and masks of data
sets refer to stored pixels, and alpha is dropped, not blended. Truncated files are errors, never filled up.

JPEG is decoded by simplejpeg, which reports libjpeg's warnings, such as of corrupt data; Pillow, which decodes all
other formats, would ignore them and give wrong pixels. Checksums that Pillow skips are verified here.
"""

import contextlib
import io
import pathlib
import re
import warnings
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import simplejpeg
from jaxtyping import Shaped, UInt8

from fcam_jax.errors import InputError
from fcam_jax.runtime.files import IMAGE, read_regular
from fcam_jax.types import Image

# Pillow warns about metadata that is not used here, such as broken EXIF, in well-known data sets. A filter for the
# duration of a call is no way out: warning filters belong to the process, and images are decoded in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

# What is read; of Pillow's further formats some start other programs (EPS) and none holds photographs or masks.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "TGA")
_JPEG_START, _PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# What a file is that is called as an image, by the bytes that it begins with.
_OTHERS = {
    rb"version https://git-lfs": ": a pointer of Git LFS (git lfs pull gets the image)",
    rb".{4}ftyp(?:hei|hev|mif|msf)": ": HEIC (save it as JPEG)",
    rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head)": ": a web page (download the image anew)",
    rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg)": ": SVG or XML (save it as PNG)",
    rb"\x93NUMPY": ": an array of NumPy (save it as PNG)",
    rb"%PDF": ": PDF (save it as PNG)",
}
_SAVE_ANEW = "if it looks right in a viewer, save it anew from there"

_ORIENTATION = 0x0112  # EXIF's
# TIFF's tags for the bits of each channel, for compression, which is by zlib at two of its numbers, and for the places
# and lengths of strips or tiles.
_BITS, _COMPRESSION, _DEFLATE = 258, 259, (8, 32946)
_OFFSETS, _LENGTHS = (273, 324), (279, 325)
_PIECE = 1 << 20  # bytes that are decompressed at a time

# The values of black and white in images of more than 8 bits; empty where they are those of 16 bits.
Window = tuple[int | float, ...]
WINDOW = "--config.data.folder.window"


class DamageError(ValueError):
    """A file's own checks fail, though a viewer may still show it."""


class SuspectError(InputError):
    """A JPEG that is whole, but whose data libjpeg warns of: its pixels may be right, or wrong in part."""


def read_image(path: pathlib.Path, *, upright: bool = False, window: Window = ()) -> Image:
    """Decode an image file; as `decode_image`, and an error where the file is missing or cannot be read."""
    return decode_image(read_bytes(path), str(path), upright=upright, window=window)


def decode_image(data: bytes, name: str, *, upright: bool = False, trusted: bool = False, window: Window = ()) -> Image:
    """Decode the bytes of an image file (of a file with several frames, the first).

    Gray, palette, CMYK and 1-bit images are converted; 16-bit gray is scaled by 255/65535 and rounded; of 16-bit
    colours the upper 8 bits are taken. Other values of more than 8 bits need a window.

    Missing pixels are noticed in every format. Changed ones are where the format has a checksum (PNG; the pixels of a
    TIFF compressed by deflate), and where the data cannot be right: in JPEG sometimes, as a changed byte often leaves a
    valid image; in GIF, WebP, AVIF and TIFF's LZW rarely; in JPEG 2000, BMP, PPM, TGA and plain TIFF hardly ever. Of
    JPEGs with unusual chroma subsampling (not 4:4:4, 4:4:0, 4:2:2, 4:2:0, 4:1:1) libjpeg's warnings are not seen.

    Args:
      data: content of the file.
      name: what messages call it.
      upright: turn and mirror the pixels as the file's EXIF orientation says, as viewers do.
      trusted: the bytes are those that were published or looked at, so libjpeg's warnings do not count.
      window: the values of black and white, for values of more than 8 bits; what lies outside is clipped.

    Returns:
      Pixels as RGB in [0, 255], read-only.

    Raises:
      InputError: when the content is empty, truncated, damaged, not an image, or larger than Pillow's limit;
        a `SuspectError` where trust would help.
    """
    pixels = None
    if is_jpeg(data):
        try:
            pixels = _jpeg_pixels(data)
        except DamageError as error:
            pixels = _pixels_by_pillow(data)
            reason = f"{name}: {_reason(data, error)}"
            if pixels is None:
                raise InputError(reason) from error
            if not trusted:
                raise SuspectError(reason) from error
        except Exception as error:  # as in `opened`
            raise InputError(f"{name}: {_reason(data, error)}") from error
    if pixels is not None and not upright:
        return pixels
    with opened(data, name) as image:
        pixels = _rgb(image, data, window) if pixels is None else pixels
        return _upright(pixels, orientation_of(image)) if upright else pixels


@contextlib.contextmanager
def opened(data: bytes, name: str) -> Iterator[PIL.Image.Image]:
    """An image file as Pillow opens it, its size and checksums looked at. Raises InputError: it is no image, or
    whatever is done with it fails.
    """
    try:
        if data.startswith(_PNG_START):
            _check_png(data)
        with PIL.Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image.width, image.height)
            _check_tiff(image, data)
            yield image
    except InputError:
        raise
    except Exception as error:  # the parsers in Pillow raise what they stumble over, there is no closed list
        raise InputError(f"{name}: {_reason(data, error)}") from error


def deep_values(data: bytes, name: str) -> Shaped[np.ndarray, "h w *channels"] | None:
    """The values of an image file that has more than 8 bits of them; None for any other."""
    if is_jpeg(data):
        return None
    with opened(data, name) as image:
        return _deep(image, data, colours=True)


def is_jpeg(data: bytes) -> bool:
    """By the beginning of a file."""
    return data.startswith(_JPEG_START)


def read_bytes(path: pathlib.Path) -> bytes:
    """The content of an image file; an `InputError` where it is missing or cannot be read."""
    return read_regular(path, IMAGE)


def _check_png(data: bytes) -> None:
    """All chunks of a PNG: length (4 bytes), kind (4), content, CRC-32 of kind and content (4); the last is IEND."""
    view, start, kind = memoryview(data), len(_PNG_START), b""
    while kind != b"IEND":
        kind = data[start + 4 : start + 8]
        end = start + 8 + int.from_bytes(data[start : start + 4])
        if end + 4 > len(data):
            raise DamageError("the file ends early, or the length of a part of it is wrong")
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise DamageError(f"the checksum of its part {kind.decode('ascii', 'replace')!r} is wrong")
        start = end + 4


def _check_tiff(image: PIL.Image.Image, data: bytes) -> None:
    """The Adler-32 after each strip or tile of a TIFF that zlib compressed; libtiff mostly stops before it."""
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


def _check_size(width: int, height: int) -> None:
    """Before memory is taken for the pixels."""
    if not 0 < width * height <= (PIL.Image.MAX_IMAGE_PIXELS or float("inf")):
        raise PIL.Image.DecompressionBombError


def _jpeg_pixels(data: bytes) -> Image | None:
    """Pixels of a JPEG without damage; None where Pillow has to give them."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(width, height)
        inks = colours in ("CMYK", "YCCK")
        pixels = simplejpeg.decode_jpeg(data, "CMYK" if inks else "RGB", strict=True)
    except (KeyError, ValueError) as error:
        if isinstance(error, KeyError) or "subsampling" in str(error):  # unusual, of 4:4:1 not even the name is known
            return None
        raise DamageError(str(error)) from error
    if inks:
        return None  # now known to be whole; Pillow's conversion to RGB rounds otherwise
    pixels.flags.writeable = False
    return pixels


def _pixels_by_pillow(data: bytes) -> Image | None:
    """Pixels of a JPEG whose warnings do not count; None where pixels are missing."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return _rgb(image, data, ())
    except Exception:  # the first decoder's reason is the better one
        return None


def orientation_of(image: PIL.Image.Image) -> int:
    """EXIF's orientation of an opened file, from 1 to 8; 1 is upright, or not known."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF is as good as none
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(pixels: Image, orientation: int) -> UInt8[np.ndarray, "_ _ 3"]:
    if orientation == 1:
        return pixels
    image = PIL.Image.fromarray(pixels)
    image.getexif()[_ORIENTATION] = orientation
    return np.asarray(PIL.ImageOps.exif_transpose(image))


def _rgb(image: PIL.Image.Image, data: bytes, window: Window) -> Image:
    deep = _deep(image, data, colours=bool(window))
    if deep is None:
        image.load()
        image.info.pop("transparency", None)  # dropped like an alpha channel; with it, `convert` warns
        return np.asarray(image.convert("RGB"))
    pixels = windowed(deep, window) if window else _eight_bits(deep)
    return pixels if pixels.ndim == 3 else np.broadcast_to(pixels[..., None], (*pixels.shape, 3))


def _deep(image: PIL.Image.Image, data: bytes, colours: bool) -> Shaped[np.ndarray, "h w *channels"] | None:
    if image.mode == "F" or image.mode[0] == "I":
        return np.asarray(image)
    bits = data[24:25] if image.format == "PNG" else bytes(getattr(image, "tag_v2", {}).get(_BITS, ()))
    if not colours or 16 not in bits:
        return None
    image.load()  # for what it refuses; of these values it has the upper 8 bits
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if values is None or values.ndim == 2 else values[..., 2::-1]


def windowed(values: np.ndarray, window: Window) -> UInt8[np.ndarray, "..."]:
    """Values as gray levels, or colours: that of black as 0, that of white as 255, what lies outside clipped."""
    low, high = window
    return np.rint(255 * np.clip(np.nan_to_num((values - low) / (high - low)), 0, 1)).astype(np.uint8)


def _eight_bits(gray: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Pillow's own conversion would clip at 255 instead of scaling."""
    low, high = gray.min(), gray.max()
    if gray.dtype.kind == "f" or low < 0 or high > 65535:
        kind = "floating-point numbers" if gray.dtype.kind == "f" else "32-bit integers"
        text = f"pixels are {kind} of unknown range, here {low:g} to {high:g}"
        raise ValueError(f"{text}; {WINDOW}={low:g},{high:g} shows these")
    return ((gray.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _reason(data: bytes, error: Exception) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):
        other = (text for start, text in _OTHERS.items() if re.match(start, data[:100], re.IGNORECASE | re.DOTALL))
        return f"not an image, or of unknown format{next(other, '')}" if data else "the image file is empty (0 bytes)"
    if isinstance(error, PIL.Image.DecompressionBombError | PIL.Image.DecompressionBombWarning):
        return f"an image must have 1 to {PIL.Image.MAX_IMAGE_PIXELS} pixels"
    message = " ".join(str(error).split()) or type(error).__name__
    return f"damaged: {message} ({_SAVE_ANEW})" if isinstance(error, DamageError) else f"cannot be decoded: {message}"
