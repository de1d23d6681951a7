"""Requests to stop: SIGTERM and SIGUSR1, by which batch systems announce the end of a job, and Ctrl-C.

A signal is only noted; it never raises, for an exception from nowhere leaves imports and writes half done. Safe points
act on it: wherever a progress bar moves, between the batches of an evaluation (`watchdog.each`), between the parts of a
program, and in the training loop, which saves first. Of several processes all must stop at the same place. There JAX
has them agree on it, so requests are only found where all processes ask for them.

A command calls `listen` before it imports anything that takes time, so this module itself imports little.
"""

import atexit
import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from fcam_jax.errors import REQUEUE, Preempted

# Seconds in which a repeated signal is the same request: a batch system may send it to a process and to its parent,
# which passes it on.
REPEATED = 2.0
_SIGNALS = {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT}


class _Request:
    """The request, once there is one."""

    kind: type[KeyboardInterrupt] | type[Preempted] | None = None
    at: float = 0.0
    told: bool = False  # to the other processes
    deferred: int = 0  # within so many of these


_request = _Request()
_asked = itertools.count()


def listen(*others: signal.Signals) -> None:
    """Take the signals, and others as Ctrl-C; before `jax.distributed` is started, which takes SIGTERM over.

    A signal that this process was started to ignore, as jobs in the background ignore Ctrl-C, stays ignored.
    """
    for number in _SIGNALS.union(others):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)
    atexit.register(_ignore)


def requested() -> bool:
    """Whether to save and stop here; of several processes, all must ask equally often, and all are told the same."""
    if not _are_several():
        return _request.kind is not None
    from jax.experimental import multihost_utils

    if _request.kind is not None and not _request.told:
        _request.told = True
        os.kill(os.getpid(), signal.SIGTERM)  # JAX's now, which tells the other processes
    return bool(multihost_utils.reached_preemption_sync_point(next(_asked)))


def stop_if_requested() -> None:
    """A safe point: raise `Preempted` (after SIGTERM or SIGUSR1), or KeyboardInterrupt, where it is requested to stop.

    All of several processes must come by.
    """
    if not _request.deferred and requested():
        stop()


def stop_if_alone() -> None:
    """A safe point that other processes, and other threads, may not come by; it counts in the main thread of one."""
    asked = _request.kind is not None and not _request.deferred and not _are_several()
    if asked and threading.current_thread() is threading.main_thread():
        stop()


def stop() -> None:
    """Raise what the request asks for: `Preempted`, or KeyboardInterrupt."""
    raise (_request.kind or Preempted)()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within this no safe point acts: for training steps, where the loop itself asks and saves."""
    _request.deferred += 1
    try:
        yield
    finally:
        _request.deferred -= 1


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Within this a request ends the process on the spot: for a call that waits for others outside of Python."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def wait() -> None:
        if number := os.read(reading, 1)[0]:
            _end(_kind(number), "; nothing has begun yet")

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writing)  # where Python writes the number of a signal as soon as it comes
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writing, bytes(1))
        thread.join()
        os.close(reading)
        os.close(writing)


def _note(number: int, frame: FrameType | None) -> None:
    del frame
    kind = _kind(number)
    if _request.kind is None:
        _request.kind, _request.at = kind, time.monotonic()
    elif kind is KeyboardInterrupt or time.monotonic() - _request.at > REPEATED:
        _end(kind, " twice; ended without saving")


def _kind(number: int) -> type[KeyboardInterrupt] | type[Preempted]:
    return Preempted if number in (signal.SIGTERM, signal.SIGUSR1) else KeyboardInterrupt


def _end(kind: type[BaseException], text: str) -> None:
    said, status = ("asked to stop", REQUEUE) if kind is Preempted else ("interrupted", 1)
    os.write(2, f"{said}{text}\n".encode())
    os._exit(status)


def _ignore() -> None:
    """At the very end, when Python gives up its handlers, a signal would change the exit status."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _are_several() -> bool:
    # Safe points lie outside of imports, so that what is loaded is whole.
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()
