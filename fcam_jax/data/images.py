"""Image files to uint8 RGB arrays, with one clear error for whatever cannot be decoded.

Pixels come as they are stored: EXIF orientation is not applied unless it is asked for, because boxes and masks of data
sets refer to stored pixels, and alpha is dropped, not blended. Truncated files are errors, never filled up.

JPEG is decoded by simplejpeg, which reports libjpeg's warnings, such as of corrupt data; Pillow, which decodes all
other formats, would ignore them and give wrong pixels. `checksums` verifies what Pillow skips.
"""

import io
import pathlib
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps
import simplejpeg
from jaxtyping import Bool, UInt, UInt8

from fcam_jax.data.checksums import PNG_START, DamageError, SuspectError, check_png, check_tiff
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import IMAGE, read_regular
from fcam_jax.types import Image

# Pillow warns about metadata that is not used here, such as broken EXIF, in well-known data sets. A filter for the
# duration of a call is no way out: warning filters belong to the process, and images are decoded in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

# What is read; of Pillow's further formats some start other programs (EPS) and none holds photographs or masks.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "TGA")
_JPEG_START = b"\xff\xd8\xff"
_SAVE_ANEW = "if it looks right in a viewer, save it anew from there"

_ORIENTATION = 0x0112  # EXIF's


def read_image(path: pathlib.Path, *, upright: bool = False) -> Image:
    """Decode an image file; see `decode_image`.

    Raises:
      InputError: as for `decode_image`, and when the file is missing or cannot be read.
    """
    return decode_image(read_bytes(path), str(path), upright=upright)


def read_mask(path: pathlib.Path) -> Bool[np.ndarray, "h w"]:
    """Decode a mask file; see `decode_mask`.

    Raises:
      InputError: as for `read_image`.
    """
    return decode_mask(read_bytes(path), str(path))


def decode_image(data: bytes, name: str, *, upright: bool = False, trusted: bool = False) -> Image:
    """Decode the bytes of an image file (of a file with several frames, the first).

    Gray, palette, CMYK and 1-bit images are converted; 16-bit gray is scaled by 255/65535 and rounded; of 16-bit
    colours the upper 8 bits are taken.

    Missing pixels are noticed in every format. Changed ones are where the format has a checksum (PNG; the pixels of a
    TIFF compressed by deflate), and where the data cannot be right: in JPEG sometimes, as a changed byte often leaves a
    valid image; in GIF, WebP, AVIF and TIFF's LZW rarely; in JPEG 2000, BMP, PPM, TGA and plain TIFF hardly ever. Of
    JPEGs with unusual chroma subsampling (not 4:4:4, 4:4:0, 4:2:2, 4:2:0, 4:1:1) libjpeg's warnings are not seen.

    Args:
      data: content of the file.
      name: what messages call it, usually its path.
      upright: turn and mirror the pixels as the file's EXIF orientation says, as viewers do.
      trusted: the bytes are known to be those that were published or looked at, so libjpeg's warnings do not count.

    Returns:
      Pixels as RGB in [0, 255], read-only.

    Raises:
      InputError: when the content is empty, truncated, damaged, not an image, or larger than Pillow's limit;
        a `SuspectError` where trust would help.
    """
    try:
        pixels = None
        if data.startswith(_JPEG_START):
            try:
                pixels = _jpeg_pixels(data)
            except DamageError as error:
                pixels = _pixels_by_pillow(data)
                if pixels is None:
                    raise
                if not trusted:
                    raise SuspectError(f"{name}: {_reason(data, error)}") from error
        if pixels is not None and not upright:
            return pixels
        if data.startswith(PNG_START):
            check_png(data)
        with PIL.Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image.width, image.height)
            check_tiff(image, data)
            pixels = _rgb(image) if pixels is None else pixels
            return _upright(pixels, orientation_of(image)) if upright else pixels
    except SuspectError:
        raise
    except Exception as error:  # the parsers in Pillow raise what they stumble over, there is no closed list
        raise InputError(f"{name}: {_reason(data, error)}") from error


def decode_mask(data: bytes, name: str) -> Bool[np.ndarray, "h w"]:
    """Decode the bytes of a mask file: True where it is not black.

    Raises:
      InputError: as for `decode_image`.
    """
    return np.any(decode_image(data, name), axis=-1)


def read_bytes(path: pathlib.Path) -> bytes:
    """The content of an image file.

    Raises:
      InputError: it is missing or cannot be read.
    """
    return read_regular(path, IMAGE)


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
            return _rgb(image)
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


def _rgb(image: PIL.Image.Image) -> Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        gray = _eight_bits(np.asarray(image))
        return np.broadcast_to(gray[..., None], (*gray.shape, 3))
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers of unknown range")
    image.load()
    image.info.pop("transparency", None)  # dropped like an alpha channel; with it, `convert` warns
    return np.asarray(image.convert("RGB"))


def _eight_bits(gray: np.ndarray) -> UInt[np.ndarray, "h w"]:
    """Pillow's own conversion would clip at 255 instead of scaling."""
    if gray.min() < 0 or gray.max() > 65535:
        raise ValueError("pixels are 32-bit integers of unknown range")
    return ((gray.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _reason(data: bytes, error: Exception) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):
        return "not an image, or of unknown format" if data else "the image file is empty (0 bytes)"
    if isinstance(error, PIL.Image.DecompressionBombError | PIL.Image.DecompressionBombWarning):
        return f"an image must have 1 to {PIL.Image.MAX_IMAGE_PIXELS} pixels"
    message = " ".join(str(error).split()) or type(error).__name__
    return f"damaged: {message} ({_SAVE_ANEW})" if isinstance(error, DamageError) else f"cannot be decoded: {message}"
