"""What is kept of a frozen classifier: computed once, gone on with, and never used when it is stale or damaged."""

import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcam_jax.errors import InputError
from fcam_jax.training.frozen_cache import cached

COUNT, FACTS, KEY = 7, {"cam": "layercam", "weights": "abc"}, "fcam.features"
MAPS = np.random.default_rng(0).random((COUNT, 4, 5)).astype(np.float16)
SHAPES = [jax.ShapeDtypeStruct((3, 4, 5), jnp.float16)]


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
            yield some, [self.maps[some]]


def kept(folder, facts, compute, like=SHAPES):
    return cached(folder, facts, COUNT, like, compute, KEY)


def found(folder, facts, compute):
    (maps,) = kept(folder, facts, compute)(np.arange(COUNT))
    return maps


def test_rows_are_computed_once(tmp_path):
    first, second = Compute(), Compute()
    np.testing.assert_array_equal(found(tmp_path, FACTS, first), MAPS)
    rows = kept(tmp_path, FACTS, second)
    assert first.images == list(range(COUNT)) and second.images == []
    assert isinstance(rows.rows, np.memmap)
    (some,) = rows(np.array([5, 0, 5]))
    np.testing.assert_array_equal(some, MAPS[[5, 0, 5]])
    assert some.dtype == np.float16


def test_a_row_has_arrays_of_any_kind(tmp_path):
    rng = np.random.default_rng(1)
    shapes = {jnp.bfloat16: (2, 3, 4), np.float16: (3,), np.float32: (2, 2), np.int32: ()}
    made = [rng.normal(size=(COUNT, *shape)).astype(kind) for kind, shape in shapes.items()]
    like = [jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for x in made]
    for _ in range(2):
        rows = kept(tmp_path, FACTS, lambda at: [(at, [x[at] for x in made])], like)
    for one, other in zip(rows(np.array([3, 1])), made, strict=True):
        np.testing.assert_array_equal(one, other[[3, 1]])
        assert one.dtype == other.dtype


@pytest.mark.parametrize("facts", [FACTS | {"weights": "abd"}, FACTS | {"cam": "gradcam"}, FACTS | {"images": "x"}])
def test_rows_of_anything_else_are_not_used(tmp_path, facts):
    found(tmp_path, FACTS, Compute())
    other = Compute(maps=MAPS[::-1])
    np.testing.assert_array_equal(found(tmp_path, facts, other), MAPS[::-1])
    np.testing.assert_array_equal(found(tmp_path, FACTS, Compute(batches=0)), MAPS)


def test_what_was_begun_is_gone_on_with(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        found(tmp_path, FACTS, Compute(batches=1))
    rest = Compute()
    np.testing.assert_array_equal(found(tmp_path, FACTS, rest), MAPS)
    assert rest.images == [3, 4, 5, 6]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "record"])
def test_a_damaged_file_is_computed_anew(tmp_path, caplog, damage):
    found(tmp_path, FACTS, Compute())
    (path,), (record,) = tmp_path.glob("*.rows"), tmp_path.glob("*.json")
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
        np.testing.assert_array_equal(found(tmp_path, FACTS, again), MAPS)
    assert again.images == list(range(COUNT)) and "is damaged: it is computed anew" in caplog.text


def test_an_image_that_was_left_out_is_missed_when_it_is_asked_for(tmp_path):
    rows = kept(tmp_path, FACTS, lambda positions: [(positions[:6], [MAPS[:6]])])
    np.testing.assert_array_equal(rows(np.arange(6))[0], MAPS[:6])
    with pytest.raises(InputError, match=r"\.rows lacks images that could not be used when it was made; remove it"):
        rows(np.array([0, 6]))


def test_the_size_is_told_and_a_file_that_the_disk_has_no_room_for_is_refused(tmp_path, caplog, monkeypatch):
    with caplog.at_level(logging.INFO, "fcam_jax"):
        found(tmp_path, FACTS, Compute())
    (path,) = tmp_path.glob("*.rows")
    assert path.stat().st_size == COUNT * 42  # 40 bytes of maps, a mark, and what aligns the next row
    assert f"fcam.features: {COUNT} rows of 0.00 MiB, 0.00 GiB" in caplog.text
    large = [jax.ShapeDtypeStruct((3, 2**14, 2**14), jnp.float32)]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(2**33, 2**32, 2**32))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"^config.fcam.features takes 7.0 GiB, and .* has 4.0 GiB free; leave it off"):
        kept(tmp_path, FACTS, Compute(), large)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"config.fcam.features: .*file/cams cannot be used: Not a directory"):
        found(tmp_path / "file" / "cams", FACTS, Compute())
