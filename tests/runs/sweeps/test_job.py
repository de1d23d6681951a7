"""Processes of runs: their output is kept, and they are stopped with the sweep."""

import os
import signal
import sys
import threading
import time

import pytest

from fcam_jax.errors import Preempted
from fcam_jax.runs.sweeps import job
from fcam_jax.runs.sweeps.job import execute

pytestmark = pytest.mark.usefixtures("listening")

OBEDIENT = """
import time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("stopped")
    time.sleep(0.2)
    print("cleanly")
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def test_the_output_of_every_call_is_kept_and_the_status_told(tmp_path):
    log = tmp_path / "run" / "log.txt"
    program = "import sys; print('out'); sys.exit(sys.argv[1])"
    assert execute([sys.executable, "-c", program, "bad"], log) == 1
    assert execute([sys.executable, "-c", "print('again')"], log) == 0
    assert sorted(log.read_text().split()) == ["again", "bad", "out"]


def interrupted(program, log):
    """Interrupt this process as Ctrl-C does once the program has begun; returns the seconds until it has ended."""
    begun = []

    def interrupt():
        while not (log.is_file() and "ready" in log.read_text()):
            time.sleep(0.01)
        begun.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        execute([sys.executable, "-c", program], log)
    seconds = time.monotonic() - begun[0]
    thread.join()
    return seconds


def test_an_interrupted_run_stops_by_itself(tmp_path):
    assert interrupted(OBEDIENT, tmp_path / "log.txt") < 20
    assert (tmp_path / "log.txt").read_text().split() == ["ready", "stopped", "cleanly"]


def test_a_run_that_does_not_stop_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "GRACE", 0.1)
    assert interrupted(STUBBORN, tmp_path / "log.txt") < 20


def test_a_run_of_a_sweep_that_is_asked_to_stop_is_asked_to_stop(tmp_path):
    program = OBEDIENT.replace("import time", "import signal, time; signal.signal(15, signal.default_int_handler)")
    log = tmp_path / "log.txt"

    def request():
        while not (log.is_file() and "ready" in log.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=request)
    thread.start()
    with pytest.raises(Preempted):
        execute([sys.executable, "-c", program], log)
    thread.join()
    assert log.read_text().split() == ["ready", "stopped", "cleanly"]
