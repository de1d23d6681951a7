"""Progress bars with rate and remaining time for whatever takes longer than a few seconds."""

import sys
from collections.abc import Iterator
from typing import TypeVar

from tqdm import tqdm

from fcam_jax.runtime import hosts

Item = TypeVar("Item")


def progress_bar(title: str, total: int, unit: str, done: int = 0) -> tqdm:
    """A bar on standard error; it stays silent where that is no terminal or notebook. One host draws it for all."""
    seen = sys.stderr.isatty() or type(sys.stderr).__module__ == "ipykernel.iostream"
    shown = seen and hosts.is_first()
    return tqdm(total=total, initial=done, desc=title, unit=unit, leave=False, disable=not shown)


def counted(items: Iterator[Item], title: str, total: int, unit: str) -> Iterator[Item]:
    """The same items, counted by a bar."""
    with progress_bar(title, total, unit) as bar:
        for item in items:
            yield item
            bar.update()
