"""Requests to stop: SIGTERM and SIGUSR1, by which batch systems announce the end of a job, and Ctrl-C.

A request raises at once, as Ctrl-C does, but within training steps it waits: the loop finishes the step that it is at,
saves and stops (`requested`). Where it comes within a finaliser, which cannot raise, it is found at the next batch. Of
several processes all must stop at the same place. There JAX catches SIGTERM and has them agree on it, so requests are
only found where all processes ask for them.
"""

import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from fcam_jax.errors import REQUEUE, Preempted

# Seconds in which a repeated signal is the same request: a batch system may send it to a process and to its parent,
# which passes it on.
REPEATED = 2.0


class _Request:
    """The request, once there is one, and whether it has to wait."""

    kind: type[KeyboardInterrupt] | type[Preempted] | None = None
    at: float = 0.0
    deferred: int = 0  # within so many of these


_request = _Request()
_asked = itertools.count()


def listen() -> None:
    """Take the signals, in the main thread and before `jax.distributed` is started, which takes SIGTERM over.

    A signal that this process was started to ignore, as jobs in the background ignore Ctrl-C, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _take)


def requested() -> bool:
    """Whether to save and stop here; of several processes, all must ask equally often, and all are told the same."""
    if _are_several():
        from jax.experimental import multihost_utils

        return bool(multihost_utils.reached_preemption_sync_point(next(_asked)))
    return _request.kind is not None


def stop_if_requested() -> None:
    """Raise `Preempted` (after SIGTERM or SIGUSR1), or KeyboardInterrupt, where it is requested to stop."""
    if requested():
        stop()


def stop() -> NoReturn:
    """Raise what the request asks for: `Preempted`, or KeyboardInterrupt."""
    raise (_request.kind or Preempted)()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within this a request waits; it is raised at the end of the outermost, unless what is within stops on its own.

    For training steps, and for what an exception from nowhere would leave half done or be taken for another by, such as
    Orbax's reading and writing.
    """
    _request.deferred += 1
    try:
        yield
    finally:
        _request.deferred -= 1
    if not _request.deferred and not _are_several() and _request.kind is not None:
        raise _request.kind()


def _take(number: int, frame: FrameType | None) -> None:
    del frame
    if _request.kind is not None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if time.monotonic() - _request.at > REPEATED:
            os._exit(REQUEUE)
        return
    _request.kind = KeyboardInterrupt if number == signal.SIGINT else Preempted
    _request.at = time.monotonic()
    if _are_several():
        os.kill(os.getpid(), signal.SIGTERM)  # JAX's now, which tells the other processes
    elif not _request.deferred:
        raise _request.kind()


def _are_several() -> bool:
    # Signals are taken before the libraries are loaded; until then the process is alone.
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()
