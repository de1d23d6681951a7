"""Where figures of a run go: one JSON object a line and, with tensorboardX, TensorBoard events."""

import contextlib
import json
import logging
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from fcam_jax.errors import InputError, extra
from fcam_jax.runtime import hosts
from fcam_jax.runtime.files import RECORD, read_regular, replace_file
from fcam_jax.runtime.records import parsed

logger = logging.getLogger(__name__)


class MetricLog:
    """Figures by step, in `metrics.jsonl` and as TensorBoard events beside it.

    A resumed run drops what was logged after the step it resumes from, so that every step appears once. Of several
    processes, whose figures are the same, the first writes them.
    """

    def __init__(self, directory: pathlib.Path, resumed_step: int, validated: int | None):
        """Open the log.

        Args:
          directory: of both files; made where it does not exist.
          resumed_step: the last step whose figures stay; -1 to keep none.
          validated: the last step whose validation stays.

        Raises:
          InputError: from here and all methods, where it cannot be written.
        """
        self._writes = hosts.is_first()
        if not self._writes:
            return
        self._directory, self._path = directory, directory / "metrics.jsonl"
        with self._told():
            directory.mkdir(parents=True, exist_ok=True)
            self._drop_after(resumed_step, -1 if validated is None else validated)
            self._events = _events(directory / "events", resumed_step)

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Log figures of a step; `kind` is the group they belong to, such as "train" or "val"."""
        if not self._writes:
            return
        with self._told():
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
            if self._events is not None:
                self._events.write(step, {f"{kind}/{name}": value for name, value in values.items()})

    def close(self) -> None:
        """Flush the events to disk."""
        if self._writes and self._events is not None:
            with self._told():
                self._events.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"the metric log in {self._directory} cannot be written ({error.strerror}); once that is mended, the "
                "same command goes on from the newest checkpoint"
            ) from error

    def _drop_after(self, step: int, validated: int) -> None:
        if self._path.exists():
            last = {"val": validated}
            kept = (line for line, entry in _entries(self._path) if entry["step"] <= last.get(entry["kind"], step))
            replace_file(self._path, "".join(f"{line}\n" for line in kept))


class _Events:
    """TensorBoard events in a folder."""

    def __init__(self, folder: pathlib.Path, resumed_step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2
        from tensorboardX.summary import scalar

        self._event, self._scalar = event_pb2.Event, scalar
        # In this thread: that of tensorboardX's own writer dies where the disk is full, and the run would hang.
        self._writer = EventsWriter(str(folder), f".{resumed_step}")
        self.close = self._writer.close
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(step=resumed_step + 1, session_log=start)  # purges later steps

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write figures of a step to the disk."""
        for name, value in values.items():
            self._add(step=step, summary=self._scalar(name, value))
        self._writer.flush()

    def _add(self, **event: Any) -> None:
        self._writer.write_event(self._event(wall_time=time.time(), **event))


def _events(folder: pathlib.Path, resumed_step: int) -> _Events | None:
    """Where events go; nowhere without tensorboardX, as `metrics.jsonl` has all of them."""
    try:
        with extra("tensorboard", "a run's log for TensorBoard"):
            return _Events(folder, resumed_step)
    except InputError as absent:
        logger.warning("%s; metrics.jsonl has the figures", absent)
        return None


def logged(directory: pathlib.Path, kind: str) -> dict[int, dict[str, float]]:
    """The figures of a kind in a folder's log, by step; none where there is no log."""
    path = directory / "metrics.jsonl"
    return {
        entry["step"]: {
            name: value for name, value in entry.items() if name != "step" and isinstance(value, int | float)
        }
        for _, entry in (_entries(path) if path.exists() else ())
        if entry["kind"] == kind
    }


def _entries(path: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a log and what they hold; one that a crash cut short, or that was damaged, is left out."""
    for line in read_regular(path, RECORD).decode(errors="replace").split("\n"):
        with contextlib.suppress(ValueError):
            yield line, parsed(line, step=int, kind=str)
