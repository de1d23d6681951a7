"""Batches on their way to the devices, one ahead of the step, and how long the devices stood still for want of them."""

import collections
import time
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh

from fcam_jax.errors import InputError
from fcam_jax.training.placed import spread
from fcam_jax.types import Batch


@runtime_checkable
class DataStream(Protocol):
    """An endless stream of batches that can be put back to where it stood."""

    def __next__(self) -> Batch:
        """The next batch."""

    def get_state(self) -> Any:
        """Where the stream stands, as JSON data."""

    def set_state(self, state: Any) -> None:
        """Put the stream back to where it stood."""


class Feed:
    """Takes batches out of a stream and puts them on the devices while these are busy with the batch before.

    Attributes:
      waited: seconds in which a batch was waited for while the devices had nothing to do. An upper bound: devices that
        ran out of work within a wait are counted as idle for all of it.
    """

    def __init__(self, stream: DataStream, mesh: Mesh):
        """Nothing is taken yet."""
        self._stream, self._mesh = stream, mesh
        self._ready: collections.deque[tuple[Batch, Any] | InputError] = collections.deque()
        self.waited = 0.0

    def take(self, busy_with: jax.Array | None, last: bool) -> tuple[Batch, Any]:
        """The next batch, on the devices, and the stream's state after it.

        Args:
          busy_with: what the devices compute at last; None where they have nothing to do.
          last: whether it is the last one that is wanted for now, so that none is taken ahead.

        Raises:
          InputError: the stream fails at this very batch.
        """
        while len(self._ready) < (1 if last else 2) and not self._failed():
            self._ready.append(self._next(busy_with))
        found = self._ready.popleft()
        if isinstance(found, InputError):
            raise found
        return found

    def _failed(self) -> bool:
        return bool(self._ready) and isinstance(self._ready[-1], InputError)

    def _next(self, busy_with: jax.Array | None) -> tuple[Batch, Any] | InputError:
        started = time.monotonic()
        try:
            batch = next(self._stream)
        except InputError as error:
            return error
        if busy_with is None or busy_with.is_ready():  # type: ignore[attr-defined]
            self.waited += time.monotonic() - started
        return spread(batch, self._mesh), self._stream.get_state()
