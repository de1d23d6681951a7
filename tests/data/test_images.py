"""Every kind of image file gets the right pixels, or one line that says what is wrong with it."""

import importlib.util
import pathlib
import warnings

import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.ImageOps
import pytest

from fcam_jax.data import images
from fcam_jax.data.images import SuspectError, decode_image, read_image
from fcam_jax.data.masks import read_mask
from fcam_jax.errors import InputError


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)


def saved(
    folder: pathlib.Path, pixels: np.ndarray | PIL.Image.Image, name: str = "image.png", **options
) -> pathlib.Path:
    image = PIL.Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    image.save(folder / name, **options)
    return folder / name


def gray_as_rgb(gray: np.ndarray) -> np.ndarray:
    return np.stack([gray] * 3, axis=-1)


def test_rgb_comes_back_unchanged(tmp_path, rgb):
    decoded = read_image(saved(tmp_path, rgb))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, rgb)


def test_gray_is_repeated_in_three_channels(tmp_path, rgb):
    np.testing.assert_array_equal(read_image(saved(tmp_path, rgb[..., 0])), gray_as_rgb(rgb[..., 0]))


def test_one_bit_becomes_black_and_white(tmp_path, rgb):
    bits = rgb[..., 0] > 127
    decoded = read_image(saved(tmp_path, PIL.Image.fromarray(bits)))
    np.testing.assert_array_equal(decoded, gray_as_rgb(bits * np.uint8(255)))


@pytest.mark.parametrize("options", [{}, {"transparency": 3}, {"transparency": bytes([0, 128, 255, 7])}])
def test_palette_gives_its_colours_and_drops_transparency(tmp_path, rgb, options):
    palette = rgb.reshape(-1, 3)[:4]
    indices = np.arange(20, dtype=np.uint8).reshape(4, 5) % 4
    image = PIL.Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(palette.tobytes())
    np.testing.assert_array_equal(read_image(saved(tmp_path, image, **options)), palette[indices])


def test_alpha_is_dropped_not_blended(tmp_path, rgb):
    alpha = np.random.default_rng(1).integers(0, 256, rgb.shape[:2], np.uint8)
    np.testing.assert_array_equal(read_image(saved(tmp_path, np.dstack([rgb, alpha]))), rgb)
    gray = rgb[..., 0]
    np.testing.assert_array_equal(read_image(saved(tmp_path, np.dstack([gray, alpha]))), gray_as_rgb(gray))


def test_cmyk_is_converted(tmp_path):
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 0], ink[..., 3] = 255, 51  # all cyan, 1/5 black
    decoded = read_image(saved(tmp_path, PIL.Image.fromarray(ink, mode="CMYK"), "image.tif"))
    np.testing.assert_array_equal(decoded, np.broadcast_to([0, 204, 204], (8, 8, 3)))


@pytest.mark.parametrize("name", ["image.png", "image.tif", "image.pgm"])
def test_16_bit_gray_is_scaled_not_clipped(tmp_path, name):
    gray = np.array([[0, 128, 129, 257], [25700, 32767, 65278, 65535]], np.uint16)
    decoded = read_image(saved(tmp_path, PIL.Image.fromarray(gray), name))
    np.testing.assert_array_equal(decoded, gray_as_rgb(np.rint(gray / 257).astype(np.uint8)))


def test_jpeg_orientation_is_not_applied(tmp_path, rgb):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert read_image(saved(tmp_path, rgb, "image.jpg", exif=exif)).shape == rgb.shape


@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.tif"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 99])
def test_an_upright_image_is_turned_as_pillow_turns_it(tmp_path, rgb, name, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, rgb, name, exif=exif)
    with PIL.Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path, upright=True), PIL.ImageOps.exif_transpose(image))


def test_a_mask_is_true_where_it_is_not_black(tmp_path):
    gray = np.array([[0, 1, 255], [7, 0, 0]], np.uint8)
    np.testing.assert_array_equal(read_mask(saved(tmp_path, gray)), gray > 0)


def test_odd_metadata_gives_no_warning(tmp_path, rgb):
    broken = b"Exif\0\0II*\0\x08\0\0\0\x03\0\x0f\x01\x02\0\xff\0\0\0\x10\x10\0\0"
    path = saved(tmp_path, rgb, "image.jpg", exif=broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError):  # without the filter of the module, which pytest's own filters override
            read_image(path, upright=True)
        fresh = importlib.util.module_from_spec(importlib.util.find_spec(images.__name__))
        fresh.__spec__.loader.exec_module(fresh)
        assert fresh.read_image(path).shape == fresh.read_image(path, upright=True).shape == rgb.shape


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"bird\.jpg: cannot be read: No such file"):
        read_image(tmp_path / "bird.jpg")


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "bird.jpg").touch()
    with pytest.raises(InputError, match=r"bird\.jpg: the image file is empty"):
        read_image(tmp_path / "bird.jpg")


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "bird.jpg").write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"bird\.jpg: not an image"):
        read_image(tmp_path / "bird.jpg")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"<?xml version='1.0'?><svg>", "SVG"),
        (b"\x93NUMPY\x01\0", "an array of NumPy"),
        (b"plain", "of unknown format$"),
    ],
)
def test_what_a_file_is_that_is_no_image_is_told(data, told):
    with pytest.raises(InputError, match=f"^bird.jpg: not an image, or.*{told}"):
        decode_image(data, "bird.jpg")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("name", ["bird.jpg", "bird.png", "bird.gif", "bird.tif", "bird.bmp", "bird.ppm"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_truncated_file_is_an_error_never_half_an_image(tmp_path, name, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = saved(tmp_path, noise, name)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=r"bird\.\w+: ") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert not PIL.ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("limit", [100, 60])
def test_more_pixels_than_the_limit_are_an_error(tmp_path, rgb, monkeypatch, limit):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)  # 117 pixels: Pillow only warns up to twice the limit
    path = saved(tmp_path, rgb)
    with pytest.raises(InputError, match=f"1 to {limit} pixels"):
        read_image(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=f"1 to {limit} pixels"):
            read_image(path)


@pytest.mark.parametrize("pixels", [np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70000, np.int32)])
def test_pixels_of_unknown_range_are_an_error(tmp_path, pixels):
    with pytest.raises(InputError, match="unknown range"):
        read_image(saved(tmp_path, pixels, "image.tif"))


def with_stray_bytes(data: bytes) -> bytes:
    """The JPEG with bytes before its end that belong to nothing: viewers show it, libjpeg warns of it."""
    return data[:-2] + 40 * b"\x12" + data[-2:]


def test_a_jpeg_that_libjpeg_warns_of_is_decoded_where_its_bytes_are_trusted(tmp_path, rgb):
    path = saved(tmp_path, rgb, "bird.jpg")
    whole, suspect = read_image(path), with_stray_bytes(path.read_bytes())
    with pytest.raises(SuspectError, match=r"^bird: damaged: .*extraneous bytes.* save it anew from there\)$"):
        decode_image(suspect, "bird")
    np.testing.assert_array_equal(decode_image(suspect, "bird", trusted=True), whole)
    for cut in (-2, len(suspect) // 2):  # missing pixels are no matter of trust
        with pytest.raises(InputError) as caught:
            decode_image(path.read_bytes()[: cut - 20], "bird", trusted=True)
        assert not isinstance(caught.value, SuspectError)
