"""What a sweep consists of, as its file says it: a `SweepRun` each."""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.configuration import files
from fcam_jax.errors import InputError

# Folder of the sweep's report, beside those of the runs.
REPORT = "report"


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """A run of a sweep.

    Attributes:
      name: its folder in the sweep's; letters, digits and any of ``._,=+-``.
      config: benchmark, as for --config of `fcam_jax.main`.
      overrides: values that differ from the benchmark's, by dotted key without ``config.``.
      classifier_of: name of the run whose trained classifier it takes instead of training one; None: its own.
    """

    name: str
    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    classifier_of: str | None = None


def read_runs(sweep: str) -> tuple[SweepRun, ...]:
    """The runs of a sweep, those whose classifiers others take first, else in the file's order.

    Args:
      sweep: name of a packaged sweep or path of a Python file with ``get_runs(args: str) -> Sequence[SweepRun]``.

    Raises:
      InputError: there is no such file, it fails, or what it says is no sweep.
    """
    name, _, args = sweep.partition(":")
    path = files.called(name, "--sweep", "sweeps")
    runs = files.function_of(path, "get_runs", f"--sweep={sweep}")(args)
    if not isinstance(runs, Sequence) or not runs or not all(isinstance(run, SweepRun) for run in runs):
        raise InputError(f"--sweep={sweep}: get_runs must return one or more fcam_jax.runs.sweeps.sweep_file.SweepRun")
    try:
        _check(runs)
    except InputError as error:
        raise InputError(f"--sweep={sweep}: {error}") from error
    origins = {run.classifier_of for run in runs}
    return tuple(sorted(runs, key=lambda run: run.name not in origins))


def _check(runs: Sequence[SweepRun]) -> None:
    for run in runs:
        kinds = {"name": str, "config": str, "overrides": Mapping, "classifier_of": str | None}
        wrong = [key for key, kind in kinds.items() if not isinstance(getattr(run, key), kind)]
        if wrong or not all(isinstance(key, str) for key in run.overrides):
            raise InputError(f"run {str(run.name)[:80]!r}: its {wrong[0] if wrong else 'overrides'} is of another kind")
    by_name = {run.name: run for run in runs}
    name, count = collections.Counter(run.name for run in runs).most_common(1)[0]
    if count > 1:
        raise InputError(f"{count} runs are called {name!r}; a name is a folder, so each run needs its own")
    for run in runs:
        if not re.fullmatch(r"[A-Za-z0-9][\w.,=+-]*", run.name, flags=re.ASCII) or run.name == REPORT:
            raise InputError(
                f"a run cannot be called {run.name!r}: a name is a folder, of letters, digits and ._,=+-, "
                f"begins with a letter or digit, and is not {REPORT!r}"
            )
        if run.classifier_of is None:
            continue
        if run.classifier_of not in by_name:
            raise InputError(f"run {run.name} has classifier_of={run.classifier_of!r}, and no run is called so")
        if by_name[run.classifier_of].classifier_of is not None or run.classifier_of == run.name:
            raise InputError(f"run {run.name} has classifier_of={run.classifier_of!r}, which trains no classifier")
