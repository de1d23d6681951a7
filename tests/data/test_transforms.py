"""Resizing and random crops."""

import numpy as np
import PIL.Image
import pytest

from fcam_jax.data.transforms import cut_out, random_crop, resize


def test_resize_ignores_the_aspect_ratio():
    assert resize(np.zeros((30, 50, 3), np.uint8), 20).shape == (20, 20, 3)


def test_resize_keeps_a_constant_image():
    image = np.broadcast_to(np.array([3, 100, 254], np.uint8), (17, 40, 3))
    np.testing.assert_array_equal(resize(image, 11), np.broadcast_to([3, 100, 254], (11, 11, 3)))


def test_halving_averages_with_the_triangle_filter():
    row = np.random.default_rng(0).integers(0, 256, 32)
    image = np.broadcast_to(row[None, :, None], (32, 32, 3)).astype(np.uint8)
    expected = np.convolve(row, np.array([1, 3, 3, 1]) / 8, mode="valid")[1::2][:14]
    np.testing.assert_allclose(resize(image, 16)[5, 1:15, 0], expected, atol=0.51)


def test_enlarging_interpolates_between_pixel_centres():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 200
    np.testing.assert_array_equal(resize(image, 4)[0, :, 0], [0, 50, 150, 200])


SIZES = [(223, 320), (320, 223), (64, 80), (80, 64), (64, 64), (65, 63), (67, 65), (67, 66), (97, 80), (97, 81)]
SIZES += [(128, 95), (128, 96), (50, 20), (20, 50), (1, 1), (3, 1), (1, 70000), (70000, 1), (2000, 9)]


@pytest.mark.parametrize("size", SIZES)
def test_resized_pixels_are_those_of_pillow(size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    white = np.full_like(noise, 255)
    for image in (noise, white, noise[::-1, ::-1], noise // 255 * 255):
        expected = PIL.Image.fromarray(image).resize((64, 64), PIL.Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(resize(image, 64), expected)


def test_white_stays_white_where_millions_of_pixels_become_one():
    image = np.full((1, 3_000_000, 3), 255, np.uint8)
    np.testing.assert_array_equal(resize(image, 2), np.full((2, 2, 3), 255))


def test_resize_does_not_write_to_what_it_is_given():
    image = np.zeros((64, 64, 3), np.uint8)
    image.flags.writeable = False
    np.testing.assert_array_equal(resize(image, 64), image)
    assert resize(image, 32).shape == (32, 32, 3)


def places(count: int, height: int, width: int, side: int) -> np.ndarray:
    """Top, left and flip of random crops, read off an image that holds its own coordinates."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    image = np.dstack([rows, columns, rows])
    found = []
    for seed in range(count):
        place = random_crop(height, width, side, np.random.default_rng(seed))
        crop = cut_out(image, side, place)
        flipped = crop[0, 0, 1] > crop[0, -1, 1]
        straight = crop[:, ::-1] if flipped else crop
        top, left = straight[0, 0, :2]
        np.testing.assert_array_equal(straight, image[top : top + side, left : left + side])
        assert (place.top, place.left) == (top, left) and (side == 1 or place.mirrored == flipped)
        found.append((top, left, flipped))
    return np.array(found)


def test_crops_are_uniform_over_all_places_and_flips():
    top, left, flipped = places(4000, height=7, width=9, side=5).T
    np.testing.assert_allclose(np.bincount(top) / 4000, np.full(3, 1 / 3), atol=0.04)
    np.testing.assert_allclose(np.bincount(left) / 4000, np.full(5, 1 / 5), atol=0.04)
    np.testing.assert_allclose(np.bincount(flipped) / 4000, [0.5, 0.5], atol=0.04)
    assert len(np.unique(np.stack([top, left, flipped]), axis=1).T) == 3 * 5 * 2


def test_a_crop_of_the_whole_image_is_only_flipped():
    assert set(map(tuple, places(40, height=4, width=4, side=4))) == {(0, 0, 0), (0, 0, 1)}


def test_the_same_generator_gives_the_same_crop():
    first, second = (random_crop(8, 8, 5, np.random.default_rng(3)) for _ in range(2))
    assert first == second
