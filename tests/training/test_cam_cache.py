"""The cache of CAMs: computed once, gone on with, and never used when it is stale or damaged."""

import logging

import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.training.cam_cache import cached_cams

COUNT, FACTS = 7, {"cam": "layercam", "weights": "abc"}
MAPS = np.random.default_rng(0).random((COUNT, 4, 5)).astype(np.float16)


class Compute:
    """Hands out `MAPS` in batches of three; counts the images, and fails after some batches."""

    def __init__(self, batches=99, maps=MAPS):
        self.images, self.batches, self.maps = [], batches, maps

    def __call__(self, positions):
        for start in range(0, len(positions), 3):
            if start // 3 == self.batches:
                raise KeyboardInterrupt
            some = positions[start : start + 3]
            self.images += some.tolist()
            yield some, self.maps[some].astype(np.float32)


def test_maps_are_computed_once(tmp_path):
    first, second = Compute(), Compute()
    np.testing.assert_array_equal(cached_cams(tmp_path, FACTS, COUNT, first), MAPS)
    found = cached_cams(tmp_path, FACTS, COUNT, second)
    np.testing.assert_array_equal(found, MAPS)
    assert first.images == list(range(COUNT)) and second.images == []
    assert isinstance(found, np.memmap) and found.dtype == np.float16


@pytest.mark.parametrize("facts", [FACTS | {"weights": "abd"}, FACTS | {"cam": "gradcam"}, FACTS | {"images": "x"}])
def test_maps_of_anything_else_are_not_used(tmp_path, facts):
    cached_cams(tmp_path, FACTS, COUNT, Compute())
    other = Compute(maps=MAPS[::-1])
    np.testing.assert_array_equal(cached_cams(tmp_path, facts, COUNT, other), MAPS[::-1])
    np.testing.assert_array_equal(cached_cams(tmp_path, FACTS, COUNT, Compute(batches=0)), MAPS)


def test_what_was_begun_is_gone_on_with(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        cached_cams(tmp_path, FACTS, COUNT, Compute(batches=1))
    rest = Compute()
    np.testing.assert_array_equal(cached_cams(tmp_path, FACTS, COUNT, rest), MAPS)
    assert rest.images == [3, 4, 5, 6]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "record"])
def test_a_damaged_file_is_computed_anew(tmp_path, caplog, damage):
    cached_cams(tmp_path, FACTS, COUNT, Compute())
    (path,), (record,) = tmp_path.glob("*.npy"), tmp_path.glob("*.json")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-9] ^= 4
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-50])
    elif damage == "gone":
        path.unlink()
    else:
        record.write_text("{")
    again = Compute()
    with caplog.at_level(logging.WARNING, "fcam_jax"):
        np.testing.assert_array_equal(cached_cams(tmp_path, FACTS, COUNT, again), MAPS)
    assert again.images == list(range(COUNT)) and "is damaged: its CAMs are computed anew" in caplog.text


def test_a_map_that_is_no_number_names_its_image_and_is_not_kept(tmp_path):
    broken = MAPS.copy()
    broken[4, 1, 1] = np.nan
    with pytest.raises(InputError, match="the CAM of training image 4 holds infinity"):
        cached_cams(tmp_path, FACTS, COUNT, Compute(maps=broken))
    np.testing.assert_array_equal(cached_cams(tmp_path, FACTS, COUNT, Compute()), MAPS)


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the CAM cache in .*file/cams cannot be used: Not a directory"):
        cached_cams(tmp_path / "file" / "cams", FACTS, COUNT, Compute())
