"""The public face: what it offers, and that the import alone is quick."""

import subprocess
import sys

import pytest

import fcam_jax as fc


def test_the_import_is_quick_and_loads_no_jax():
    program = "import sys, time; t = time.perf_counter(); import fcam_jax; "
    program += "print(time.perf_counter() - t, 'jax' in sys.modules)"
    seconds, loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.split()
    assert float(seconds) < 0.5 and loaded == "False"


def test_every_name_is_there_and_dir_lists_it():
    assert set(fc.__all__) == set(dir(fc))
    for name in fc.__all__:
        assert getattr(fc, name) is not None


def test_an_unknown_name_is_answered_with_those_that_exist():
    with pytest.raises(AttributeError, match=r"has no attribute 'trian'; there: .*train"):
        fc.trian  # noqa: B018


def test_a_mistake_in_a_training_is_one_line(tmp_path):
    with pytest.raises(fc.InputError, match="no such benchmark file: 'nothing'"):
        fc.train("nothing", tmp_path)
    with pytest.raises(fc.InputError, match=r"unknown configuration key config\.fcam\.epoch: did you mean 'epochs'"):
        fc.train("synthetic", tmp_path, {"fcam.epoch": 1})
