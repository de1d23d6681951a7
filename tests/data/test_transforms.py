"""Resizing and random crops; boxes and masks in the frame of the score map, against OpenCV and reference values."""

import cv2
import numpy as np
import PIL.Image
import pytest

from fcam_jax.data.source import Record
from fcam_jax.data.transforms import (
    annotate,
    cut_out,
    object_map,
    random_crop,
    rescale_boxes,
    resize,
    resize_mask,
)
from fcam_jax.types import Annotation


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


# Of what Pillow 13.0.0 resizes height first, as its pixels say; earlier ones begin with the width.
TALL = [(65, 63), (67, 65), (97, 80), (128, 95), (2000, 9)]
SIZES = [(223, 320), (320, 223), (64, 80), (80, 64), (64, 64), *TALL, (67, 66), (97, 81)]
SIZES += [(128, 96), (50, 20), (20, 50), (1, 1), (3, 1), (1, 70000), (70000, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_resized_pixels_are_those_of_pillow(size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    white = np.full_like(noise, 255)
    for image in (noise, white, noise[::-1, ::-1], noise // 255 * 255):
        first = (size[1], 64) if size in TALL else (64, size[0])
        once = PIL.Image.fromarray(image).resize(first, PIL.Image.Resampling.BILINEAR)
        expected = once.resize((64, 64), PIL.Image.Resampling.BILINEAR)
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


def test_boxes_equal_the_reference_program(shared):
    golden = np.load(shared / "golden/evaluation/iou_resize.npz")
    for box, size, expected in zip(golden["boxes"], golden["sizes_wh"], golden["resized224"], strict=True):
        np.testing.assert_array_equal(rescale_boxes(box[None], tuple(map(int, size)), (224, 224))[0], expected)


def test_boxes_are_truncated_and_neither_clipped_nor_grown():
    boxes = np.array([[0, 0, 10, 7], [3, 2, 9, 6]])
    expected = [[int(c * t / f) for c, t, f in zip(box, (16, 32) * 2, (10, 7) * 2, strict=True)] for box in boxes]
    assert expected[0] == [0, 0, 16, 32]
    np.testing.assert_array_equal(rescale_boxes(boxes, (10, 7), (16, 32)), expected)


def test_rescaling_no_boxes_gives_no_boxes():
    assert rescale_boxes(np.zeros((0, 4), np.int64), (10, 10), (20, 20)).shape == (0, 4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 128])
def test_mask_indices_equal_opencv_for_every_source_size(size):
    for source in range(1, 3000, 7 if size == 128 else 1):
        positions = np.arange(source, dtype=np.float32)
        expected = cv2.resize(positions[None], (size, 1), interpolation=cv2.INTER_NEAREST)[0]
        mask = np.zeros((1, source), bool)
        mask[0, expected.astype(int)] = True
        assert resize_mask(mask, size).all(), source  # every index that is read is one that OpenCV reads ...
        mask[0, expected.astype(int)[::2]] = False  # ... and at the same place
        opencv = cv2.resize(mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
        np.testing.assert_array_equal(resize_mask(mask, size), opencv > 0, err_msg=str(source))


def test_masks_equal_the_reference_program(shared):
    golden = np.load(shared / "golden/evaluation/maskeval.npz")
    for number, (height, width) in enumerate(golden["dims_hw"]):

        def unpack(name, height=height, width=width):
            return np.unpackbits(golden[name], axis=1)[:height, :width].astype(bool)

        mask = np.any([unpack(f"mask_{number:02}_{n}") for n in range(golden["inst_count"][number])], axis=0)
        image = np.zeros((1, 1, 3), np.uint8)
        record = Record(image, 0, "a", mask=mask, ignore=unpack(f"ignore_{number:02}"))
        annotation = annotate(record, 224)
        expected = golden["gt_mask"][number]
        np.testing.assert_array_equal(annotation.mask, expected == 1)
        np.testing.assert_array_equal(annotation.ignore, expected == 255)


def test_annotate_takes_the_frame_of_the_boxes_from_the_image():
    record = Record(np.zeros((50, 100, 3), np.uint8), 3, "x/y.jpg", boxes=np.array([[10, 10, 100, 50], [0, 0, 5, 5]]))
    annotation = annotate(record, 20)
    assert (annotation.image_id, annotation.label) == ("x/y.jpg", 3)
    np.testing.assert_array_equal(annotation.boxes, [[2, 4, 20, 20], [0, 0, 1, 2]])
    assert annotation.mask is None and annotation.ignore is None


def test_a_map_for_training_shows_the_mask_or_else_all_boxes():
    mask, ignore = np.zeros((2, 4, 4), bool)
    mask[1, 1:3] = ignore[1:, 2] = True
    boxes = np.array([[0, 0, 1, 0], [3, 2, 9, 9]])
    by_mask = object_map(Annotation("a", 0, boxes, mask, ignore), 4)
    np.testing.assert_array_equal(by_mask, [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 255, 0], [0, 0, 255, 0]])
    by_boxes = object_map(Annotation("a", 0, boxes), 4)
    np.testing.assert_array_equal(by_boxes, [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]])
    assert not object_map(Annotation("a", 0, np.zeros((0, 4), int)), 4).any()


def test_an_undecided_pixel_of_the_object_is_object():
    mask = np.array([[True, False], [False, False]])
    ignore = np.array([[True, True], [False, False]])
    annotation = annotate(Record(np.zeros((2, 2, 3), np.uint8), 0, "a", mask=mask, ignore=ignore), 2)
    np.testing.assert_array_equal(annotation.mask, mask)
    np.testing.assert_array_equal(annotation.ignore, [[False, True], [False, False]])
