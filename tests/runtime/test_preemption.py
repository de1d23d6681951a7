"""Requests to stop are noted at any moment and acted on at safe points alone."""

import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from fcam_jax.errors import Preempted
from fcam_jax.runtime import preemption
from fcam_jax.runtime.progress import counted, progress_bar

pytestmark = pytest.mark.usefixtures("listening")

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_a_signal_alone_raises_nothing_not_even_in_the_code_of_others():
    signal.raise_signal(signal.SIGTERM)
    with preemption.deferred():
        preemption.stop_if_requested()
        preemption.stop_if_alone()
    with pytest.raises(Preempted):
        preemption.stop_if_requested()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGTERM, Preempted), (signal.SIGUSR1, Preempted), (signal.SIGINT, KeyboardInterrupt)],
)
def test_a_bar_that_moves_is_a_safe_point_of_the_main_thread(number, kind):
    seen = []
    with pytest.raises(kind):
        for item in counted(iter(range(5)), "items", 5, "item"):
            seen.append(item)
            if item == 2:
                signal.raise_signal(number)
                others = threading.Thread(target=lambda: progress_bar("others", 1, "item").update())
                others.start()
                others.join()
    assert seen == [0, 1, 2]


def program(text):
    """A program that listens, in a process of its own."""
    begin = "import signal, sys, time\nfrom fcam_jax.runtime import preemption\npreemption.listen()\n"
    return subprocess.Popen(
        [sys.executable, "-c", begin + text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("number", "pause", "status", "line"),
    [
        (signal.SIGINT, 0.0, 1, "interrupted twice; ended without saving\n"),
        (signal.SIGTERM, 2.1, 75, "asked to stop twice; ended without saving\n"),
        (signal.SIGTERM, 0.0, 0, ""),  # the same request, by two ways
    ],
)
@pytest.mark.slow
def test_a_second_request_does_not_wait(number, pause, status, line):
    asked = f"signal.raise_signal({int(number)})"
    process = program(f"{asked}\ntime.sleep({pause})\n{asked}\n")
    assert process.communicate(timeout=60) == ("", line)
    assert process.returncode == status


@pytest.mark.slow
def test_what_waits_outside_of_python_is_ended_at_once():
    # A call that takes no signal and holds the main thread, as the meeting of several processes does.
    wait = "import ctypes\nprint('waits', flush=True)\nctypes.CDLL(None).sleep(30)\nctypes.CDLL(None).sleep(30)\n"
    process = program("with preemption.ending_at_once():\n" + "".join(f"    {line}\n" for line in wait.splitlines()))
    assert process.stdout.readline() == "waits\n"
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (75, "asked to stop; nothing has begun yet\n")
    assert time.monotonic() - started < 10


@pytest.mark.slow
def test_a_signal_at_the_very_end_changes_nothing():
    # After the exit handlers, when Python has given up its own.
    process = program("import atexit, os\natexit._run_exitfuncs()\nos.kill(os.getpid(), signal.SIGTERM)\n")
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


@pytest.mark.slow
def test_what_comes_before_the_signals_are_taken_is_little():
    script = (
        "import sys\nbefore = set(sys.modules)\nimport fcam_jax.runtime.preemption\n"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('fcam_jax') or name in HEAVY))"
    ).replace("HEAVY", "('jax', 'numpy', 'argparse', 'logging', 'typing')")
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "['fcam_jax', 'fcam_jax.errors', 'fcam_jax.runtime', 'fcam_jax.runtime.preemption']"
