"""Two processes that evaluate half of a split each, against one that evaluates it all."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
from program import QUICKLY_COMPILED

from fcam_jax.evaluation.evaluator import local_part, of_every_host
from tests.evaluation import two_hosts

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(port, process):
    """Start `two_hosts` with two devices for each of two processes."""
    env = os.environ | {"XLA_FLAGS": f"{QUICKLY_COMPILED} --xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-m", "tests.evaluation.two_hosts", str(port), str(process)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process):
    """What a process printed last."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def test_every_host_has_the_figures_of_the_whole_split(capsys):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    first, second = start(port, 0), start(port, 1)
    found = [answer(first), answer(second)]
    two_hosts.main(port, "alone")  # in this process, which has four devices
    alone = json.loads(capsys.readouterr().out)
    assert [one["hosts"] for one in found] == [2, 2] and alone["hosts"] == 1
    assert {one["devices"] for one in (*found, alone)} == {4}
    assert found[0]["facts"] == found[1]["facts"] == alone["facts"]
    metrics, *_, examples, _ = alone["facts"]
    assert examples == 11 and 0 < metrics["PxAP"] < 100


def test_one_host_has_all_of_its_own():
    value = {"counts": np.arange(3)}
    assert list(of_every_host(value)) == [value]
    assert local_part(np.arange(4.0)).tolist() == [0, 1, 2, 3]
