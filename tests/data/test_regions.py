"""Run lengths and polygons against COCO's own program."""

import numpy as np
import pycocotools.mask
import pytest

from fcam_jax.data.layouts.regions import parse_region, parse_runs, run_lengths


@pytest.mark.parametrize("density", [0, 0.02, 0.5, 1])
@pytest.mark.parametrize("shape", [(1, 1), (7, 90), (120, 33)])
def test_run_lengths_are_those_of_coco(shape, density):
    mask = np.random.default_rng(0).random(shape) < density
    mask[shape[0] // 2 :] ^= True
    packed = run_lengths(mask)
    assert packed["counts"].encode() == pycocotools.mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    np.testing.assert_array_equal(parse_runs(packed).mask(), mask)
    changes = np.flatnonzero(np.diff(mask.ravel(order="F"))) + 1
    plain = np.diff([0, *([0] if mask.flat[0] else []), *changes, mask.size]).tolist()
    np.testing.assert_array_equal(parse_region(packed | {"counts": plain}, shape[::-1]).mask(), mask)


def test_polygons_are_filled_and_united():
    square, triangle = [2, 1, 6, 1, 6, 4, 2, 4], [0.0, 9.0, 8.0, 9.0, 8.0, 5.0]
    mask = parse_region([square, triangle], (9, 9)).mask()
    expected = np.zeros((9, 9), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(mask[:5], expected[:5])
    assert abs(mask[5:].sum() - 16) <= 4  # half of 8 x 4
    np.testing.assert_array_equal(mask[:, 8:], False)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "must be a list of polygons or run lengths"),
        ([], "must be a list of polygons"),
        ([[1, 2, 3, 4]], "3 or more pairs"),
        ([[1, 2, 3, 4, 5, 6, 7]], "3 or more pairs"),
        ([[1, 2, 3, 4, 5, float("nan")]], "what is not a number"),
        ([[1, 2, 3, 4, 5, 10**400]], "what is not a number"),
        ([[1, 2, 3, 4, 5, 40]], "far outside"),
        ({"counts": [80]}, "size"),
        ({"size": [10, 8], "counts": None}, "counts"),
        ({"size": [10, 8], "counts": [81, -1]}, "counts"),
        ({"size": [10, 8], "counts": [79]}, "run lengths of 79 pixels in all, but the size is 8 x 10"),
        ({"size": [10, 8], "counts": "\x01"}, "counts"),
        ({"size": [10, 8], "counts": "oooooooooooo"}, "counts"),
        ({"size": [8, 10], "counts": [80]}, "run lengths of 10 x 8 pixels, the image has 8 x 10"),
        ({"size": [10**9, 10**9], "counts": [10**18]}, "more than"),
    ],
)
def test_what_is_no_region_is_refused(value, words):
    with pytest.raises(ValueError, match=words):
        parse_region(value, (8, 10))
