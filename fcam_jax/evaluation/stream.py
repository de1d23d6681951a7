"""The one evaluator: a stream of score maps, from a model, a folder or arrays, to what is known of their split.

Threads load and measure a group of images while the next group is made; what is kept does not grow with the images.
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from fcam_jax.evaluation.findings import At, Findings, Measured, Wanted, measured
from fcam_jax.evaluation.metric import Scored
from fcam_jax.evaluation.result import Evaluation

R = TypeVar("R")

TOGETHER = 32  # images that are read ahead of those that are measured

# What has maps, such as a table's row, and an image with its map, or what loads it.
Load = tuple[str, Scored | Callable[[], Scored]]


def gathered(groups: Iterable[Sequence[Load]], wanted: Wanted, threads: int) -> dict[str, Findings]:
    """What is found, by what has the maps, of a stream's images; those of two groups are held at a time.

    Raises InputError: for the first image that cannot be used.
    """

    def measure(row: str, image: Scored | Callable[[], Scored]) -> tuple[str, Measured]:
        return row, measured(image if isinstance(image, Scored) else image(), wanted)

    known: dict[str, Findings] = {}
    tasks = ([functools.partial(measure, *one) for one in group] for group in groups)
    for row, image in in_threads(tasks, threads):
        known.setdefault(row, Findings(wanted)).add(image)
    return known


def evaluate_each(
    load: Callable[[int], Scored],
    count: int,
    wanted: Wanted,
    at: At | None = None,
    watched: Callable[[Iterator[Any]], Iterator[Any]] = iter,
) -> Evaluation:
    """Evaluate images at positions 0 to `count`, loaded by several threads.

    `watched` lets groups of `TOGETHER` images pass, e.g. with a progress bar. Raises InputError: for the first image
    that cannot be used.
    """
    groups = ([("", task) for task in group] for group in _tasks(load, count))
    return gathered(watched(groups), wanted, os.cpu_count() or 1)[""].evaluation(at)


def each(task: Callable[[int], R], count: int) -> Iterator[R]:
    """Results of a task for each position in turn, from all cores."""
    return in_threads(_tasks(task, count), os.cpu_count() or 1)


def _tasks(task: Callable[[int], R], count: int) -> Iterator[list[Callable[[], R]]]:
    for start in range(0, count, TOGETHER):
        yield [functools.partial(task, i) for i in range(start, min(start + TOGETHER, count))]


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
