"""Where figures of a run go: one JSON object a line, and TensorBoard events."""

import json
import pathlib
from collections.abc import Mapping

import tensorboardX

from fcam_jax import hosts


class MetricLog:
    """Figures by step, in `metrics.jsonl` and as TensorBoard events beside it.

    A resumed run drops what was logged after the step it resumes from, so that every step appears once. Of several
    processes, whose figures are the same, the first writes them.
    """

    def __init__(self, directory: pathlib.Path, resumed_step: int):
        self._writes = hosts.is_first()
        if not self._writes:
            return
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "metrics.jsonl"
        self._drop_after(resumed_step)
        self._events = tensorboardX.SummaryWriter(str(directory), purge_step=resumed_step + 1)

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Log figures of a step; `kind` is the group they belong to, such as "train" or "val"."""
        if not self._writes:
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        for name, value in values.items():
            self._events.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush the events to disk."""
        if self._writes:
            self._events.close()

    def _drop_after(self, step: int) -> None:
        if not self._path.exists():
            return
        kept = [line for line in self._path.read_text().splitlines() if _step_of(line) <= step]
        self._path.write_text("".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    """Step of a logged line; a line that a crash cut short counts as later than any step."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return float("inf")


def logged(directory: pathlib.Path, kind: str) -> dict[int, dict[str, float]]:
    """The figures of a kind in a folder's log, by step; none where there is no log."""
    path = directory / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    entries = [json.loads(line) for line in lines if _step_of(line) < float("inf")]
    return {
        entry["step"]: {name: value for name, value in entry.items() if name not in ("step", "kind")}
        for entry in entries
        if entry["kind"] == kind
    }
