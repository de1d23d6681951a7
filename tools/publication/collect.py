"""What is published of evaluated runs, out of their folders: the fields of the file that `data.py` describes.

Derived figures are computed here, from whole curves and histograms; the file keeps less of these. They are

    plateau_from, plateau_to, plateau_width     thresholds, see `shapes.plateau`
    activations_high, activations_middle        percent of the pixels, see `shapes.activation_shape`
    activations_rise, second_mode               see there; 1 with a second mode near 1, else 0
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fcam_jax.configuration.flat import flat_settings
from fcam_jax.errors import InputError
from fcam_jax.runs.report.record import EVALUATION
from fcam_jax.runs.report.runs import StoredEvaluation, StoredRun, read_run
from fcam_jax.runtime.records import read_record
from fcam_jax.training.metric_log import logged
from tools.publication.data import CURVE, VERSION, name_of
from tools.publication.shapes import activation_shape, plateau

RESULTS = "results.json"
# Where files lie on the machine of the run says nothing to others: their names alone are published.
_PATHS = ("data.root", "model.init", "fcam.init", "cam.cache_dir")
_CURVE_STEP = 0.01
_FIGURE_DIGITS, _DERIVED_DIGITS, _CURVE_DIGITS, _SHARE_DIGITS = 3, 4, 2, 4  # the last one significant


@dataclasses.dataclass(frozen=True)
class Collected:
    """Runs that were found."""

    runs: tuple[StoredRun, ...]  # those that were evaluated, each of another name
    results: dict[str, dict[str, Any]]  # what `results.json` of each says, by its name
    left_out: tuple[pathlib.Path, ...]  # folders of runs that were not evaluated


def collect(workdirs: Sequence[pathlib.Path]) -> Collected:
    """Find and read the evaluated runs in folders.

    Args:
      workdirs: folders of runs, or of one run.

    Raises:
      InputError: a folder holds no run, none was evaluated, two have the same name, or a file is damaged.
    """
    folders = list(dict.fromkeys(folder.resolve() for workdir in workdirs for folder in _folders(workdir)))
    evaluated = [one for one in folders if (one / RESULTS).is_file() and any((one / EVALUATION).glob("*.json"))]
    if not evaluated:
        raise InputError(f"no run in {', '.join(map(str, workdirs))} was evaluated; train them, or --mode=eval")
    runs: dict[str, StoredRun] = {}
    for folder in evaluated:
        if folder.name in runs:
            raise InputError(f"two runs are called {folder.name}: {runs[folder.name].folder} and {folder}; rename one")
        run = read_run(folder)
        runs[folder.name] = dataclasses.replace(run, config=_with_names(run.config))
    results = {name: _results(run.folder / RESULTS) for name, run in runs.items()}
    return Collected(tuple(runs.values()), results, tuple(one for one in folders if one not in evaluated))


def fields(collected: Collected, examples_of: str | None) -> dict[str, Any]:
    """The fields of the file of results.

    Args:
      collected: the runs.
      examples_of: the run that the grids of examples are of.
    """
    first = collected.runs[0].config
    runs: dict[str, Any] = {}
    known: dict[str, list[tuple[str, Any]]] = {}  # by the row: runs that have it, with what they say of it
    for run in collected.runs:
        rows: dict[str, Any] = {}
        for record in run.records:
            row, others = _row(record), known.setdefault(record.row, [])
            same = next((name for name, other in others if other == row), None)
            if same is None:
                others.append((name_of(run), row))
            rows[record.row] = row if same is None else {"same_as": same}
        runs[name_of(run)] = _facts(run, first, collected.results[name_of(run)]) | {"rows": rows}
    return {"version": VERSION, "examples_of": examples_of, "config": first, "runs": runs}


def _with_names(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration with the names of files in the place of their paths."""
    return {
        key: _with_names(value, f"{prefix}{key}.")
        if isinstance(value, Mapping)
        else pathlib.PurePath(value).name
        if f"{prefix}{key}" in _PATHS
        else value
        for key, value in config.items()
    }


def _folders(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The folder, if it is a run's, or those of the runs in it by name."""
    if (workdir / "config.json").is_file():
        return [workdir]
    found = sorted(path.parent for path in workdir.glob("*/config.json"))
    if not found:
        raise InputError(f"--workdir={workdir} holds no run: there is no config.json in it or in a folder of it")
    return found


def _results(path: pathlib.Path) -> dict[str, Any]:
    return read_record(path, "evaluate the run again (--mode=eval)", config_hash=str, checkpoints=dict)


def _facts(run: StoredRun, first: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    own, others = dict(flat_settings(run.config)), dict(flat_settings(first))
    differs = {key: value for key, value in own.items() if key not in others or others[key] != value}
    lacks = [key for key in others if key not in own]
    return {
        "config": differs,
        **({"lacks": lacks} if lacks else {}),
        "config_hash": results["config_hash"],
        "split": run.records[0].split,
        "images": run.records[0].images,
        "program": results.get("program"),
        "machine": results.get("machine"),
        "checkpoints": {
            row: {**facts, "val": _rounded(facts.get("val") or {})} for row, facts in results["checkpoints"].items()
        },
        "seconds": _seconds(run.folder, results),
    }


def _seconds(folder: pathlib.Path, results: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of the training steps of each stage that the run has trained, and of the evaluation.

    A line of a stage's log has the rate of the steps since the line before it.
    """
    seconds = {}
    for facts in results["checkpoints"].values():
        spent, before = 0.0, 0
        for step, values in sorted(logged(folder / facts["stage"], "train").items()):
            if values.get("steps_per_second"):
                spent += (step - before) / values["steps_per_second"]
            before = step
        if spent:
            seconds[facts["stage"]] = round(spent, 1)
    if results.get("evaluation_seconds") is not None:
        seconds["evaluation"] = results["evaluation_seconds"]
    return seconds


def _row(record: StoredEvaluation) -> dict[str, Any]:
    derived: dict[str, float] = {}
    curve: dict[str, Any] = {"curve": None}
    if CURVE in record.curves:
        found = plateau(record.thresholds, record.curves[CURVE])
        derived |= {"plateau_from": found.low, "plateau_to": found.high, "plateau_width": found.width}
        curve = _curve(record)
    shape = activation_shape(record.histogram)
    derived |= {
        "activations_high": shape.high,
        "activations_middle": shape.middle,
        "activations_rise": shape.rise,
        "second_mode": int(shape.second_mode),
    }
    values = {name: [value, *record.intervals.get(name, ())] for name, value in record.figures.items()}
    return {
        "figures": {name: [round(value, _FIGURE_DIGITS) for value in found] for name, found in values.items()},
        "derived": _rounded(derived, _DERIVED_DIGITS),
        "by_size": {part: _rounded(figures) for part, figures in record.by_size.items()},
        **curve,
        "histogram": _histogram(record),
    }


def _histogram(record: StoredEvaluation) -> list[float | int]:
    """Pixels of a million in each bin, with some significant digits."""
    counts = record.histogram
    shares = [float(f"{share:.{_SHARE_DIGITS}g}") for share in (1e6 * counts / max(int(counts.sum()), 1)).tolist()]
    return [int(share) if share.is_integer() else share for share in shares]


def _curve(record: StoredEvaluation) -> dict[str, Any]:
    """The curve at some of its thresholds, which are evenly spaced."""
    step = float(record.thresholds[1] - record.thresholds[0]) if len(record.thresholds) > 1 else 1.0
    every = max(1, round(_CURVE_STEP / step))
    kept = record.curves[CURVE][::every]
    return {
        "thresholds": [float(record.thresholds[0]), round(every * step, 6), len(kept)],
        "curve": np.round(kept, _CURVE_DIGITS).tolist(),
    }


def _rounded(figures: Mapping[str, Any], digits: int = _FIGURE_DIGITS) -> dict[str, Any]:
    return {name: round(value, digits) if isinstance(value, float) else value for name, value in figures.items()}
