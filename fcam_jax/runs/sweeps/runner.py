"""A run in a process of its own: its output into `log.txt` of its folder, the outcome in a line."""

import pathlib
import signal
import subprocess
import time
from collections.abc import Sequence

from fcam_jax.errors import REQUEUE, InputError, Preempted
from fcam_jax.runs.classifiers import check_origin, take_classifier
from fcam_jax.runs.sweeps.plan import Planned
from fcam_jax.runs.sweeps.summary import figures_text
from fcam_jax.runtime import preemption

LOG = "log.txt"

# Seconds that a run has to stop in when it is interrupted.
GRACE = 60
ASK = 0.1  # seconds between two looks at it


def carry_out(one: Planned) -> str:
    """Train and evaluate a run.

    Returns:
      The outcome, for people.

    Raises:
      InputError: it cannot begin or has failed; the message is its last line.
      Preempted: it was asked to stop.
    """
    check_origin(one.folder, one.run.classifier_of)
    if one.source is not None:
        if one.source.results() is None:
            raise InputError(f"it takes the classifier of {one.source.name}, which is not done")
        one.folder.mkdir(parents=True, exist_ok=True)
        take_classifier(one.source.folder, one.folder, same_cam=one.source.config["cam"] == one.config["cam"])
    started = time.monotonic()
    log = one.folder / LOG
    status = execute(one.command, log)
    if status == REQUEUE:
        raise Preempted
    results = one.results()
    if status != 0 or results is None:
        raise InputError(f"{_last_line(log).removeprefix('error: ')} ({log})")
    return f"done in {(time.monotonic() - started) / 60:.1f} min{figures_text(results)}"


def execute(command: Sequence[str], log: pathlib.Path) -> int:
    """The exit status of a command, its output appended to a file; it is stopped when this process is interrupted."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        # In a session of its own, so that Ctrl-C reaches it once and from here, wherever the signal came from.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        while child.poll() is None:
            try:
                preemption.stop_if_alone()
                time.sleep(ASK)
            except (KeyboardInterrupt, Preempted) as request:
                _stop(child, isinstance(request, Preempted))
                raise
        return child.returncode


def _stop(child: subprocess.Popen[bytes], preempted: bool) -> None:
    # A shell's background jobs ignore the keyboard's signal, and so do their children.
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    child.send_signal(signal.SIGTERM if preempted or deaf else signal.SIGINT)
    if not deaf:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait for it
    try:
        child.wait(GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        child.wait()


def _last_line(log: pathlib.Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it has printed nothing"
