"""Processes that are one run: one that fails ends both. That two are the run of one is in `cli/test_main.py`."""

import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from program import ROOT, SMALL, words_of
from two_programs import ends, started_twice

from fcam_jax.errors import InputError
from fcam_jax.runtime import hosts

pytestmark = pytest.mark.slow

FAILS = """
import sys, time
from fcam_jax.runtime import hosts
coordinator, processes, process = (word.partition("=")[2] for word in sys.argv[1:])
hosts.start(coordinator, int(processes), int(process))
with hosts.ending_together():
    time.sleep(60) if process == "0" else sys.exit("error: no luck")
"""


def test_what_ends_one_process_ends_the_other_with_its_line():
    first, second = ends(started_twice("-c", FAILS))
    assert (first[0], second[0]) == (1, 1)
    assert first[2].splitlines()[-1] == "host 1 has failed, so host 0 ends: error: no luck"
    assert second[2].splitlines()[-1] == "error: no luck"


@pytest.mark.long
def test_a_bad_image_on_one_host_ends_both_with_its_line(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(16):
        path = tmp_path / "data" / "train" / f"class{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (32, 40, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:300])
    values = {key: value for key, value in SMALL.items() if not key.startswith("data.synthetic.")}
    values |= {"data.source": "folder", "data.root": tmp_path / "data", "data.num_classes": 0}
    said = ends(started_twice("-m", "fcam_jax.main", *words_of("configs/synthetic.py", tmp_path / "run", **values)))
    assert [status for status, *_ in said] == [1, 1], said
    lines = [err.splitlines()[-1] for *_, err in said]
    assert all(f"error: {path}: cannot be decoded" in line for line in lines)
    assert sorted(line.startswith("host ") for line in lines) == [False, True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("localhost:1", 2, None), "--process is missing"),
        (("localhost:1", 2, 2), r"--process=2 must lie in \[0, 2\)"),
        (("localhost", 2, 0), "must be HOST:PORT"),
    ],
)
def test_flags_that_do_not_fit_together_are_named(arguments, words):
    with pytest.raises(InputError, match=words):
        hosts.start(*arguments)


def test_a_host_that_is_not_found_gets_one_line():
    program = "from fcam_jax.runtime import hosts; hosts.FIND = 1; hosts.start('localhost:1', 2, 1)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: process 1: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}, None),
        ({"SLURM_STEP_NUM_TASKS": "8"}, "slurm"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "ompi"),
    ],
)
def test_a_cluster_is_found_where_the_step_has_several_tasks(environment, found):
    assert hosts._cluster(environment) == found


def test_alone_the_first_is_the_only_one():
    assert hosts.is_first() and hosts.of_first(lambda: [1]) == [1]
    with pytest.raises(InputError, match="as it is"), hosts.ending_together():
        raise InputError("as it is")
