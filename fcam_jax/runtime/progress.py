"""Progress bars with rate and remaining time for whatever takes longer than a few seconds."""

import sys
from collections.abc import Iterator
from typing import TypeVar

from tqdm import tqdm

from fcam_jax.runtime import hosts, preemption

Item = TypeVar("Item")


class _Bar(tqdm):
    def update(self, n: int | float | None = 1) -> bool | None:
        preemption.stop_if_alone()
        return super().update(n)


def progress_bar(title: str, total: int, unit: str, done: int = 0) -> tqdm:
    """A bar on standard error; it stays silent where that is no terminal or notebook. One host draws it for all.

    Wherever it moves, a request to stop is heeded.
    """
    seen = sys.stderr.isatty() or type(sys.stderr).__module__ == "ipykernel.iostream"
    shown = seen and hosts.is_first()
    return _Bar(total=total, initial=done, desc=title, unit=unit, leave=False, disable=not shown)


def counted(items: Iterator[Item], title: str, total: int, unit: str) -> Iterator[Item]:
    """The same items, counted by a bar."""
    with progress_bar(title, total, unit) as bar:
        for item in items:
            yield item
            bar.update()
