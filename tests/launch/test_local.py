"""Several processes on one machine, with a program in the place of Python."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]

PROGRAM = """#!/bin/bash
index=${@: -1}; index=${index#--process=}
trap 'echo stopped; exit 75' TERM
echo "$index started"
printf '%s\\n' "$@" > "$FAKES/arguments$index"
case $BEHAVIOUR-$index in
    fail-1) exit 3 ;;
    well-*) exit 0 ;;
    fail-*) sleep 1; exit 1 ;;
esac
while :; do sleep 0.05; done
"""


@pytest.fixture
def start(tmp_path):
    program = tmp_path / "python"
    program.write_text(PROGRAM)
    program.chmod(0o755)

    def begin(behaviour):
        env = os.environ | {"FCAM_PYTHON": str(program), "FAKES": str(tmp_path), "BEHAVIOUR": behaviour}
        command = [str(ROOT / "launch" / "local.sh"), "--processes=3", "--port=5", "--", "--a=b  c", '--d="$(e)"']
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=env, text=True, start_new_session=True, **pipes)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, children would ignore it
    yield begin
    signal.signal(signal.SIGINT, before)


def test_every_process_gets_all_arguments_and_its_number(start, tmp_path):
    run = start("well")
    out, err = run.communicate(timeout=30)
    assert run.returncode == 0, err
    assert sorted(out.splitlines()) == ["[0] 0 started", "[1] 1 started", "[2] 2 started"]
    for index in range(3):
        last = ["--coordinator=localhost:5", "--processes=3", f"--process={index}"]
        found = (tmp_path / f"arguments{index}").read_text().splitlines()
        assert found == ["-m", "fcam_jax.main", "--a=b  c", '--d="$(e)"', *last]


def test_the_status_is_that_of_the_first_that_fails(start):
    run = start("fail")
    run.communicate(timeout=30)
    assert run.returncode == 3


def test_a_request_that_comes_while_processes_are_started_leaves_none_behind(start, tmp_path):
    run = start("wait")
    while not list(tmp_path.glob("arguments*")):
        time.sleep(0.001)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)  # ends only when no process holds its output
    assert run.returncode in (75, 128 + signal.SIGTERM)


# The last as a terminal's Ctrl-C, to all that was started.
@pytest.mark.parametrize(
    ("send", "number"), [(os.kill, signal.SIGTERM), (os.kill, signal.SIGINT), (os.killpg, signal.SIGINT)]
)
def test_a_request_to_stop_reaches_all(start, send, number):
    run = start("wait")
    assert all("started" in run.stdout.readline() for _ in range(3))
    send(run.pid, number)
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 75 and out.count("stopped") == 3, json.dumps(out)
