"""Two processes of the program against one: the same run, also after an interruption; and one that fails ends both."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
from program import QUICKLY_COMPILED

from fcam_jax.errors import REQUEUE, InputError
from fcam_jax.runtime import hosts

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = {
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 24,
    "data.synthetic.val": 8,
    "data.synthetic.test": 10,
    "model.decoder_widths": (8, 8, 4, 4),
    "classifier.epochs": 1,
    "fcam.epochs": 1,
    "evaluation.batch_size": 8,
    "evaluation.pictures": 3,
    "evaluation.examples": 2,
    "evaluation.threshold_step": 0.01,
    "evaluation.bootstrap": 20,
    "validation.threshold_step": 0.1,
    "log_steps": 1,
}


def start(folder, processes, **values):
    """Start the program with four devices in one process, or two in each of two."""
    values = SMALL | {key.replace("__", "."): value for key, value in values.items()}
    if values.get("data.source", "synthetic") != "synthetic":
        values = {key: value for key, value in values.items() if not key.startswith("data.synthetic.")}
    command = [sys.executable, "-m", "fcam_jax.main", "--config=configs/synthetic.py", f"--workdir={folder}"]
    command += [f"--config.{key}={value}" for key, value in values.items()]
    devices = f"--xla_force_host_platform_device_count={4 // processes}"

    env = os.environ | {"XLA_FLAGS": f"{QUICKLY_COMPILED} {devices}"}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    each = [[f"--coordinator=localhost:{port}", f"--processes={processes}", f"--process={i}"] for i in range(processes)]
    return [
        subprocess.Popen(
            [*command, *(own if processes > 1 else [])],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in each
    ]


def ends(started):
    """Status, output and errors of each process."""
    said = [process.communicate(timeout=300) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


def run_alone(folder):
    """Run one process to its end."""
    ((status, _, err),) = ends(start(folder, 1))
    assert status == 0, err


def run_together(folder):
    """Run two processes of which one is asked to stop, and the same two again; returns what these say."""
    started = start(folder, 2)
    saved = folder / "fcam" / "checkpoints" / "latest"
    while all(process.poll() is None for process in started) and not (saved / "0").is_dir():
        time.sleep(0.02)
    started[1].terminate()
    said = ends(started)
    assert [status for status, *_ in said] == [REQUEUE] * 2, said
    assert not (folder / "results.json").exists()
    return ends(start(folder, 2))


def logged(folder, stage):
    """The figures of a stage that do not depend on the machine."""
    lines = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "wait" not in key and "second" not in key} for line in lines]


def check_same_figures(expected, found):
    """Compare the figures of two logs but for rounding."""
    for one, other in zip(expected, found, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            # PxAP counts 8,192 pixels at ten thresholds: one that rounding takes over one of these is .01 percent.
            near = 0.02 if key == "PxAP" else 1e-5
            assert other[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=near)), key


# One test, so that of several workers one alone runs the program.
def test_two_processes_are_the_run_of_one_and_the_first_speaks(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    run_alone(alone)
    (status, out, _), (other_status, silent, quiet) = run_together(together)
    assert (status, other_status) == (0, 0)
    # XLA's Gloo tells of its connections on the standard output, too.
    assert "test, percent" in out and "percent" not in silent and quiet == ""
    for stage, lines in (("classifier", 3 + 2), ("fcam", 3 + 2)):
        expected = logged(alone, stage)
        assert len(expected) == lines
        check_same_figures(expected, logged(together, stage))
    expected, found = (json.loads((folder / "results.json").read_text()) for folder in (alone, together))
    assert found["images"] == expected["images"] == 10
    for row, figures in expected["methods"].items():
        assert found["methods"][row] == pytest.approx(figures, abs=0.5), row
    assert {path.name for path in together.iterdir()} == {path.name for path in alone.iterdir()}


def test_a_bad_image_on_one_host_ends_both_with_its_line(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(16):
        path = tmp_path / "data" / "train" / f"class{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (32, 40, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:300])
    values = {"data__source": "folder", "data__root": tmp_path / "data", "data__num_classes": 0}
    said = ends(start(tmp_path / "run", 2, **values))
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
