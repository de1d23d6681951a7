"""Boxes and masks in the frame of the score map, against OpenCV and the protocol's reference values."""

import cv2
import numpy as np
import pytest

from fcam_jax.data.annotations import annotate, object_map, rescale_boxes, resize_mask
from fcam_jax.data.source import Record
from fcam_jax.types import Annotation


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
