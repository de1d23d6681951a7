"""What a run waits for: told by a thread where nothing has moved for a while."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from fcam_jax.runtime.preemption import stop_if_requested

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


_place = ("the start", 0.0)  # where the main thread is, and since when


def at(what: str) -> None:
    """Tell what the run waits for from now on."""
    global _place
    _place = (what, time.monotonic())


def each(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The same items, each told as a place, such as "validation batch 3"; between them a request to stop is heeded."""
    at(f"{what} 1")
    for number, item in enumerate(items, 1):
        stop_if_requested()
        yield item
        at(f"{what} {number + 1}")


@contextlib.contextmanager
def watching(name: str, seconds: float) -> Iterator[None]:
    """Log a line where nothing has moved for so many seconds, and again as `Standstill` says; 0 watches nothing."""
    if not seconds:
        yield
        return
    at("the start")
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(name, seconds, done), name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _watch(name: str, seconds: float, done: threading.Event) -> None:
    standstill = Standstill(seconds)
    while not done.wait(seconds / 10):
        what, since = _place
        waited = standstill.worth_telling(since, time.monotonic())
        if waited is not None:
            logger.warning("%s: nothing has moved for %.0f s; it waits for %s", name, waited, what)


class Standstill:
    """When a standstill is worth a line: after some time, and again after twice, four times, ... as long."""

    def __init__(self, seconds: float):
        """The first line is worth it after so many seconds."""
        self._seconds = self._pause = seconds
        self._since: float | None = None

    def worth_telling(self, since: float, now: float) -> float | None:
        """How long nothing has moved, on the clock of `now`, in seconds, where that is to be told now; else None."""
        if since != self._since:
            self._since, self._pause = since, self._seconds
        if now - since < self._pause:
            return None
        self._pause *= 2
        return now - since
