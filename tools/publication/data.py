"""The file of published results: a JSON object with the first run's configuration and, per run, what differs in it.

    version         of this layout
    config          the first run's configuration
    examples_of     the run that the grids of examples beside the file are of, or null
    runs            by the run's name:
      config        values that differ, by dotted key; `lacks`: keys that this run has not
      config_hash, split, images, program, machine, checkpoints, seconds
      rows          by the row's name: {"same_as": RUN} where an earlier run has the very same row, or
        figures     [value] or [value, low, high] with the ends of the 95 % interval, in percent
        derived     see `collect.py`
        by_size     figures by the object's share of the image
        curve       MaxBoxAcc in percent at `thresholds`: [first, step, number]; null without boxes
        histogram   pixels of a million by value, in bins of 1/256

In: such a file. Out: its runs as those that the report's parts take. Nothing else is known of the runs here.
"""

import copy
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fcam_jax.errors import InputError
from fcam_jax.runs.report.runs import StoredEvaluation, StoredRun
from fcam_jax.runtime.records import read_record

VERSION = 1
CURVE = "MaxBoxAcc"
_LONG = 20
_AGAIN = "collect it again (--workdir)"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is published of a run besides its rows."""

    differs: dict[str, Any]  # its configuration, where it is not the first run's, by dotted key
    config_hash: str  # of its configuration
    program: dict[str, Any]  # version and commit; empty where the run is of a version that did not record it
    machine: dict[str, Any]  # likewise
    # by the row of a stage: stage, step and validation figures of the model that was evaluated, and the run that
    # it was taken from, if it was
    checkpoints: dict[str, dict[str, Any]]
    seconds: dict[str, float]  # by stage, of the training steps alone; "evaluation"


@dataclasses.dataclass(frozen=True)
class Published:
    """The results in a file."""

    # at least one, with their names as folders. The figures of their records include the derived ones
    runs: tuple[StoredRun, ...]
    facts: dict[str, Facts]  # by the run's name
    examples_of: str | None  # the run that the grids of examples are of


def name_of(run: StoredRun) -> str:
    """The name of a run."""
    return run.folder.name


def read_published(path: pathlib.Path) -> Published:
    """Read a file of results.

    Raises:
      InputError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise InputError(f"--data={path}: no such file; --workdir=DIR collects the runs in DIR into it")
    fields = read_record(path, _AGAIN)
    if fields.get("version") != VERSION:
        raise InputError(f"{path} is of version {fields.get('version')} of the data, not {VERSION}; {_AGAIN}")
    try:
        return _published(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{path} is damaged ({reason}); {_AGAIN}") from error


def data_text(fields: Mapping[str, Any]) -> str:
    """The text of a file of results: indented, with a line for each list and for each object of single values."""
    return _text(fields, "") + "\n"


def _published(fields: Mapping[str, Any]) -> Published:
    runs, facts = [], {}
    for name, one in fields["runs"].items():
        records = [_record(row, one, _row(fields["runs"], row, given)) for row, given in one["rows"].items()]
        runs.append(StoredRun(pathlib.Path(name), _config(fields["config"], one), tuple(records), {}))
        facts[name] = Facts(
            dict(one["config"]) | dict.fromkeys(one.get("lacks", ())),
            str(one["config_hash"]),
            dict(one["program"] or {}),
            dict(one["machine"] or {}),
            {row: {**of, "stage": str(of["stage"]), "val": dict(of["val"])} for row, of in one["checkpoints"].items()},
            {stage: float(seconds) for stage, seconds in one["seconds"].items()},
        )
    if not runs:
        raise ValueError("it holds no run")
    return Published(tuple(runs), facts, fields["examples_of"])


def _config(first: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The whole configuration of a run."""
    config = copy.deepcopy(dict(first))
    for key, value in run["config"].items():
        *path, last = key.split(".")
        node = config
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    for key in run.get("lacks", ()):
        *path, last = key.split(".")
        node = config
        for part in path:
            node = node[part]
        del node[last]
    return config


def _row(runs: Mapping[str, Any], row: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row as it is, or that of the run which it is the same as."""
    return runs[given["same_as"]]["rows"][row] if "same_as" in given else given


def _record(row: str, run: Mapping[str, Any], fields: Mapping[str, Any]) -> StoredEvaluation:
    figures = {name: float(values[0]) for name, values in fields["figures"].items()}
    thresholds, curves = np.zeros(0), {}
    if fields["curve"] is not None:
        first, step, number = fields["thresholds"]
        thresholds, curves = first + step * np.arange(number), {CURVE: np.array(fields["curve"], float)}
        if curves[CURVE].shape != thresholds.shape:
            raise ValueError(f"the curve of {row} has not {number} values")
    return StoredEvaluation(
        row=row,
        split=str(run["split"]),
        images=int(run["images"]),
        figures=figures | {name: float(value) for name, value in fields["derived"].items()},
        thresholds=thresholds,
        curves=curves,
        precision_recall=None,
        histogram=np.array(fields["histogram"], float),
        intervals={name: (float(ends[1]), float(ends[2])) for name, ends in fields["figures"].items() if len(ends) > 1},
        by_size={part: {n: float(value) for n, value in of.items()} for part, of in fields["by_size"].items()},
        by_class={},
    )


def _text(value: Any, indent: str) -> str:
    if isinstance(value, Mapping) and any(isinstance(one, Mapping | list | tuple) for one in value.values()):
        inner = indent + " "
        lines = (f"{inner}{json.dumps(key)}: {_text(one, inner)}" for key, one in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    long = isinstance(value, list | tuple) and len(value) > _LONG
    return json.dumps(value, allow_nan=False, separators=(",", ":") if long else None)
