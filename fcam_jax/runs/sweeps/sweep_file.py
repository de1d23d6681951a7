"""What a sweep consists of: its runs as its file says them, their configurations and folders, and which are done."""

import collections
import dataclasses
import fnmatch
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.configuration import configuration, files
from fcam_jax.configuration.flat import settings_key
from fcam_jax.errors import InputError
from fcam_jax.runs import build
from fcam_jax.runs.classifiers import check_same_training, origin
from fcam_jax.runs.folder import config_hash
from fcam_jax.runtime.records import read_record

# Folder of the sweep's report, beside those of the runs.
REPORT = "report"
# A run is a call of this; what it prints and its exit status are all that is known of it besides its folder.
PROGRAM = (sys.executable, "-m", "fcam_jax.main")


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


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run that was planned."""

    run: SweepRun  # what the sweep's file says
    folder: pathlib.Path
    config: dict[str, Any]  # resolved
    command: tuple[str, ...]  # the call of the program
    source: "Planned | None"  # the run whose classifier it takes, if it takes one

    @property
    def name(self) -> str:
        """Its name."""
        return self.run.name

    def results(self) -> dict[str, Any] | None:
        """Its results, or None as long as there are none of this very configuration: it is not done."""
        try:
            results = {"methods": {}, "checkpoints": {}} | read_record(self.folder / "results.json", "")
        except InputError:
            return None
        if not _are_figures(results):
            return None
        done = results.get("config_hash") == config_hash(self.config) and origin(self.folder) == self.run.classifier_of
        return results if done else None


def read_runs(sweep: str) -> tuple[SweepRun, ...]:
    """The runs of a sweep, those whose classifiers others take first, else in the file's order.

    It is a packaged one by its name or a Python file with ``get_runs(args: str) -> Sequence[SweepRun]`` by its path.

    Raises:
      InputError: there is no such file, it fails, or what it says is no sweep.
    """
    name, _, args = sweep.partition(":")
    path = files.called(name, "--sweep", "sweeps")
    runs = files.function_of(path, "get_runs", f"--sweep={sweep}")(args)
    if not isinstance(runs, Sequence) or not runs or not all(isinstance(run, SweepRun) for run in runs):
        raise InputError(f"--sweep={sweep}: get_runs must return one or more fcam_jax.runs.sweeps.sweep_file.SweepRun")
    if wrong := _wrong(runs):
        raise InputError(f"--sweep={sweep}: {wrong}")
    origins = {run.classifier_of for run in runs}
    return tuple(sorted(runs, key=lambda run: run.name not in origins))


def plan(runs: Sequence[SweepRun], workdir: pathlib.Path, options: Mapping[str, str]) -> list[Planned]:
    """Plan the runs of a sweep, as `read_runs` orders them; values of the command line count more than theirs.

    Raises:
      InputError: the configuration of a run cannot be built; two runs have the same one; two runs that share a
        classifier would train different ones.
    """
    planned: dict[str, Planned] = {}
    names: dict[str, str] = {}
    for run in runs:
        values = {key: str(value) for key, value in run.overrides.items()} | dict(options)
        try:
            config = build.resolved(configuration(run.config, values)).to_dict()
        except InputError as error:
            raise InputError(f"run {run.name}: {error}") from error
        first = names.setdefault(settings_key(config), run.name)
        if first != run.name:
            raise InputError(f"runs {first} and {run.name} have the same configuration; leave one out")
        source = None if run.classifier_of is None else planned[run.classifier_of]
        if source is not None:
            check_same_training(run.name, config, source.name, source.config)
        folder = workdir / run.name
        overrides = (f"--config.{key}={value}" for key, value in values.items())
        command = (*PROGRAM, f"--config={run.config}", f"--workdir={folder}", *overrides)
        planned[run.name] = Planned(run, folder, config, command, source)
    return list(planned.values())


def matching(planned: Sequence[Planned], pattern: str) -> list[Planned]:
    """The runs whose names match a pattern such as ``layercam-*``; an `InputError` where there is none."""
    chosen = [one for one in planned if fnmatch.fnmatchcase(one.name, pattern)]
    if not chosen:
        raise InputError(f"--only={pattern}: no run is called so; there: {', '.join(one.name for one in planned)}")
    return chosen


def _wrong(runs: Sequence[SweepRun]) -> str:
    """What is wrong with the first run that cannot be; "" where there is none."""
    kinds = {"name": str, "config": str, "overrides": Mapping, "classifier_of": str | None}
    for run in runs:
        wrong = [key for key, kind in kinds.items() if not isinstance(getattr(run, key), kind)]
        if wrong or not all(isinstance(key, str) for key in run.overrides):
            return f"run {str(run.name)[:80]!r}: its {wrong[0] if wrong else 'overrides'} is of another kind"
    by_name = {run.name: run for run in runs}
    name, count = collections.Counter(run.name for run in runs).most_common(1)[0]
    if count > 1:
        return f"{count} runs are called {name!r}; a name is a folder, so each run needs its own"
    for run in runs:
        if not re.fullmatch(r"[A-Za-z0-9][\w.,=+-]*", run.name, flags=re.ASCII) or run.name == REPORT:
            return (
                f"a run cannot be called {run.name!r}: a name is a folder, of letters, digits and ._,=+-, "
                f"begins with a letter or digit, and is not {REPORT!r}"
            )
        if (of := run.classifier_of) is not None:
            if of not in by_name:
                return f"run {run.name} has classifier_of={of!r}, and no run is called so"
            if by_name[of].classifier_of is not None:
                return f"run {run.name} has classifier_of={of!r}, which trains no classifier"
    return ""


def _are_figures(results: Mapping[str, Any]) -> bool:
    """Whether results of a run are such as a summary takes: damaged ones are none."""
    methods, checkpoints = results["methods"], results["checkpoints"]
    if not isinstance(methods, dict) or not isinstance(checkpoints, dict) or not methods.keys() >= checkpoints.keys():
        return False
    if not all(isinstance(facts, dict) and isinstance(facts.get("stage"), str) for facts in checkpoints.values()):
        return False
    figures = [*methods.values(), *(facts.get("val") for facts in checkpoints.values())]
    return all(isinstance(one, dict) and all(isinstance(v, float | int) for v in one.values()) for one in figures)
