"""A sweep's runs with their configurations and folders: what is to be called for each, and which are done."""

import dataclasses
import fnmatch
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_jax.configuration import configuration
from fcam_jax.configuration.flat import settings_key
from fcam_jax.errors import InputError
from fcam_jax.runs import build
from fcam_jax.runs.classifiers import check_same_training, origin
from fcam_jax.runs.folder import config_hash
from fcam_jax.runs.sweeps.sweep_file import SweepRun
from fcam_jax.runtime.records import read_record

# A run is a call of this; what it prints and its exit status are all that is known of it besides its folder.
PROGRAM = (sys.executable, "-m", "fcam_jax.main")


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run that was planned.

    Attributes:
      run: what the sweep's file says.
      folder: its folder.
      config: its resolved configuration.
      command: the call of the program.
      source: the run whose classifier it takes, if it takes one.
    """

    run: SweepRun
    folder: pathlib.Path
    config: dict[str, Any]
    command: tuple[str, ...]
    source: "Planned | None"

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


def _are_figures(results: Mapping[str, Any]) -> bool:
    """Whether results of a run are such as a summary takes: damaged ones are none."""
    methods, checkpoints = results["methods"], results["checkpoints"]
    if not isinstance(methods, dict) or not isinstance(checkpoints, dict) or not methods.keys() >= checkpoints.keys():
        return False
    if not all(isinstance(facts, dict) and isinstance(facts.get("stage"), str) for facts in checkpoints.values()):
        return False
    figures = [*methods.values(), *(facts.get("val") for facts in checkpoints.values())]
    return all(isinstance(one, dict) and all(isinstance(v, float | int) for v in one.values()) for one in figures)


def plan(runs: Sequence[SweepRun], workdir: pathlib.Path, options: Mapping[str, str]) -> list[Planned]:
    """Plan the runs of a sweep.

    Args:
      runs: as `read_runs` orders them.
      workdir: folder of the sweep.
      options: values of the command line, which hold for all runs and count more than theirs, by key.

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
    """The runs whose names match a pattern such as ``layercam-*``.

    Raises:
      InputError: there is none.
    """
    chosen = [one for one in planned if fnmatch.fnmatchcase(one.name, pattern)]
    if not chosen:
        raise InputError(f"--only={pattern}: no run is called so; there: {', '.join(one.name for one in planned)}")
    return chosen
