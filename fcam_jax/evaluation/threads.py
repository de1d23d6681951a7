"""Work in threads that overlaps with the making of the next work, in order and within bounded memory."""

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

R = TypeVar("R")


def in_threads(groups: Iterable[Sequence[Callable[[], R]]], threads: int) -> Iterator[R]:
    """The results of tasks in order; while a group is made, the one before it is worked on, and none before that waits.

    What tasks hold of memory is held for two groups at a time.
    """
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        waiting: list[concurrent.futures.Future[R]] = []
        for group in groups:
            started = [pool.submit(task) for task in group]
            for future in waiting:
                yield future.result()
            waiting = started
        for future in waiting:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
