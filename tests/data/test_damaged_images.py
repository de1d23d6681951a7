"""Odd and damaged image files: right pixels, or one line that says what is wrong; memory only for what is decoded."""

import concurrent.futures
import io
import resource
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from fcam_jax.data.images import decode_image
from fcam_jax.data.transforms import resize
from fcam_jax.errors import InputError
from tests.fuzz.images import FORMATS, by_pillow, count, cut, encoded, flipped, outcome

BASELINE_SOF = b"\xff\xc0\0\x11\x08"  # frame header of a JPEG of three colours; height and width follow


@pytest.fixture(scope="module")
def photo() -> PIL.Image.Image:
    """Coarse and fine structure, as photographs have."""
    rng = np.random.default_rng(0)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((72, 56))
    return PIL.Image.fromarray(np.clip(np.asarray(coarse) + rng.normal(0, 8, (56, 72, 3)), 0, 255).astype(np.uint8))


def saved(image: PIL.Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with another chunk after its header, which ends at byte 33."""
    return png[:33] + chunk(kind, content) + png[33:]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_off_anywhere_is_refused_or_right(photo, name):
    data = encoded(photo, name)
    truth = by_pillow(data)
    outcomes = [outcome(data[: len(data) * percent // 100], truth) for percent in range(101)]
    assert outcomes[-1] == "right"
    assert set(outcomes[:90]) == {"refused"}
    assert set(outcomes[90:]) <= {"refused", "right"}


@pytest.mark.slow
def test_no_changed_byte_of_a_png_passes(photo):
    data = encoded(photo.crop((0, 0, 36, 28)), "PNG")
    truth = by_pillow(data)
    for place in range(len(data)):
        assert outcome(changed(data, place), truth) in ("refused", "right")


def test_no_changed_byte_of_the_deflated_pixels_of_a_tiff_passes(photo):
    small = photo.crop((0, 0, 36, 28))
    data = saved(small, format="TIFF", compression="tiff_adobe_deflate", strip_size=1024)
    with PIL.Image.open(io.BytesIO(data)) as image:
        strips = list(zip(image.tag_v2[273], image.tag_v2[279], strict=True))
    assert len(strips) > 2
    truth = by_pillow(data)
    for start, length in strips:
        for place in range(start, start + length, 5):
            assert outcome(changed(data, place), truth) in ("refused", "right")


@pytest.mark.parametrize("name", FORMATS)
def test_a_changed_byte_never_gives_a_crash(photo, name):
    counts = count([encoded(photo, name)], flipped, 100, np.random.default_rng(0))
    assert counts["crash"] == counts["slow"] == 0
    assert counts["wrong"] <= counts["Pillow"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), [("JPEG baseline", 0.85), ("JPEG progressive", 0.75)])
def test_fewer_damaged_jpegs_pass_than_by_pillow(photo, name, share):
    counts = count([encoded(photo, name)], flipped, 1000, np.random.default_rng(1))
    assert 0 < counts["wrong"] < share * counts["Pillow"]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_what_libjpeg_says_of_a_damaged_jpeg_is_told(photo, mode):
    data = saved(photo.convert(mode), format="JPEG")
    middle = len(data) * 3 // 4
    damaged = data[:middle] + data[middle + 60 :]
    assert by_pillow(damaged) is not None
    with pytest.raises(InputError, match=r"^bird\.jpg: damaged: (Corrupt|Premature).* \(if .* save it anew") as caught:
        decode_image(damaged, "bird.jpg")
    assert "\n" not in str(caught.value)


def test_the_part_of_a_png_with_a_wrong_checksum_is_named(photo):
    data = bytearray(encoded(photo, "PNG"))
    data[-20] ^= 1
    with pytest.raises(InputError, match=r"bird\.png: damaged: the checksum of its part 'IDAT' is wrong \(if"):
        decode_image(bytes(data), "bird.png")


@pytest.mark.parametrize("transform", [0, 2])  # Adobe's marker: CMYK as it is, or as YCCK
@pytest.mark.parametrize("upright", [False, True])
def test_a_cmyk_jpeg_is_converted_as_pillow_does(photo, transform, upright):
    data = bytearray(saved(photo.convert("CMYK"), format="JPEG"))
    data[data.index(b"Adobe") + 11] = transform
    np.testing.assert_array_equal(decode_image(bytes(data), "image", upright=upright), by_pillow(bytes(data)))


@pytest.mark.parametrize("options", [{"subsampling": i} for i in range(3)] + [{"keep_rgb": True}, {"quality": 1}])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_has_the_pixels_that_pillow_gives(photo, options, progressive):
    data = saved(photo, format="JPEG", progressive=progressive, **options)
    np.testing.assert_array_equal(decode_image(data, "image"), by_pillow(data))


@pytest.mark.parametrize("factors", [(0x11, 0x12, 0x11), (0x14, 0x11, 0x11)])
def test_a_jpeg_of_unusual_subsampling_is_left_to_pillow(photo, factors):
    data = bytearray(saved(photo, format="JPEG", subsampling=0))
    start = data.index(BASELINE_SOF)
    data[start + 11], data[start + 14], data[start + 17] = factors
    truth = by_pillow(bytes(data))
    assert truth is not None
    np.testing.assert_array_equal(decode_image(bytes(data), "image"), truth)


@pytest.mark.parametrize("channels", [3, 4])
def test_of_16_bit_colours_the_upper_8_bits_are_taken(channels):
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, "image"), pixels[..., 2::-1] >> 8)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_an_animation_the_first_frame_is_taken(photo, form):
    other = photo.rotate(180)
    options = {"lossless": True} if form == "WEBP" else {}
    data = saved(photo, format=form, save_all=True, append_images=[other], **options)
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2
    np.testing.assert_array_equal(decode_image(data, "image"), by_pillow(data))


@pytest.mark.parametrize("size", [(1, 1), (10000, 1), (1, 10000)])
@pytest.mark.parametrize("name", FORMATS)
def test_the_thinnest_images_are_decoded_and_resized(name, size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    data = encoded(PIL.Image.fromarray(pixels), name)
    decoded = decode_image(data, "image")
    np.testing.assert_array_equal(decoded, by_pillow(data))
    expected = PIL.Image.fromarray(decoded).resize((64, 64), PIL.Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize(decoded, 64), expected)


def huge(photo: PIL.Image.Image, form: str) -> bytes:
    """A small file that says it has 30,000 x 30,000 pixels."""
    data, side = saved(photo, format=form), 30000
    if form == "PNG":
        return data[:8] + chunk(b"IHDR", struct.pack(">II", side, side) + data[24:29]) + data[33:]
    places, number = {
        "JPEG": ([data.find(BASELINE_SOF) + 5, data.find(BASELINE_SOF) + 7], ">H"),
        "GIF": ([6, 8], "<H"),
        "BMP": ([18, 22], "<I"),
        "TIFF": ([data.find(tag + b"\4\0") + 8 for tag in (b"\0\1", b"\1\1")], "<I"),
    }[form]
    for place in places:
        data = data[:place] + struct.pack(number, side) + data[place + struct.calcsize(number) :]
    return data


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_no_memory_is_taken_for_more_pixels_than_the_limit(photo, form):
    data = huge(photo, form)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="an image must have 1 to 89478485 pixels"):
        decode_image(data, "bomb")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KiB; the pixels would be 2.5 GiB


@pytest.fixture(scope="module")
def zeros() -> bytes:
    """64 MiB of them, compressed."""
    return zlib.compress(bytes(64 << 20))


@pytest.mark.parametrize(("kind", "start"), [(b"zTXt", b"key\0\0"), (b"iCCP", b"key\0\0"), (b"iTXt", b"key\0\1\0\0\0")])
def test_metadata_that_expands_a_thousandfold_is_not_expanded(photo, kind, start, zeros):
    data = with_chunk(encoded(photo, "PNG"), kind, start + zeros)
    tracemalloc.start()
    try:
        assert outcome(data, np.asarray(photo)) in ("refused", "right")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_file_of_another_format_is_no_image(photo):
    for form in ("EPS", "PDF", "PCX"):
        with pytest.raises(InputError, match=r"bird\.jpg: not an image, or of unknown format"):
            decode_image(saved(photo, format=form), "bird.jpg")


def test_threads_do_not_change_what_becomes_of_a_file(photo):
    rng = np.random.default_rng(0)
    data = [encoded(photo, name) for name in ("JPEG baseline", "JPEG progressive", "PNG")]
    files = [damage(file, rng) for _ in range(40) for file in data for damage in (flipped, cut)]
    truth = np.asarray(photo)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda file: outcome(file, truth), files)) == [outcome(file, truth) for file in files]
