"""Maps in files."""

import ast
import concurrent.futures
import time

import numpy as np
import pytest

from fcam_jax.data.arrays import read_map
from fcam_jax.errors import InputError


def test_threads_do_not_parse_headers_at_once(tmp_path, monkeypatch):
    """Python 3.11's parser may fail in two threads at once (python/cpython#106905)."""
    maps = [np.full((2, 3), value, np.float32) for value in range(8)]
    for value, score_map in enumerate(maps):
        np.save(tmp_path / f"{value}.npy", score_map)
    parse, inside, peak = ast.literal_eval, [], []

    def watched(text):
        inside.append(text)
        time.sleep(0.01)
        peak.append(len(inside))
        inside.pop()
        return parse(text)

    monkeypatch.setattr(ast, "literal_eval", watched)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda value: read_map(tmp_path / f"{value}.npy"), range(8)))
    np.testing.assert_array_equal(found, maps)
    assert peak == [1] * 8


def test_a_map_cut_short_names_its_file(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as an array .*: .*128 bytes got 127"):
        read_map(tmp_path / "a.npy")
