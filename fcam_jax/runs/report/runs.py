"""A run's folder as the report sees it: configuration, evaluation records, and validation figures of every epoch.

In: a folder. Out: a `StoredRun`. Whatever is missing or damaged is one `InputError` that names the file.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from fcam_jax.configuration.flat import setting, settings_key
from fcam_jax.data.source import SPLITS
from fcam_jax.errors import InputError
from fcam_jax.evaluation.activations import BINS
from fcam_jax.runs.class_names import ClassNames, names_of_run
from fcam_jax.runs.report.paper import row_order
from fcam_jax.runs.report.record import EVALUATION, FROM_EXAMPLES, VERSION
from fcam_jax.runtime.records import read_record as read_json
from fcam_jax.runtime.text import first_line
from fcam_jax.training.metric_log import logged

_AGAIN = "evaluate the run again (--mode=eval)"
# What a record of odd values may raise.
ODD = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
# Settings that are read, by what they must be, where they are there.
_SETTINGS = {
    **dict.fromkeys(("data.name", "data.source", "model.encoder", "cam.name", "classifier.method"), str),
    **{"validation.selection": str, "fcam.seeds.background_fraction": int | float, "fcam.loss": dict},
}


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall in [0, 1], from high thresholds to low."""

    precision: Float[np.ndarray, " n"]  # share of the pixels taken that show the object
    recall: Float[np.ndarray, " n"]  # share of the object's pixels that are taken
    partial: bool  # they are those of the kept examples, not of the whole split


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Number of pixels with a value in ``[i, i + 1) / 256``."""

    counts: Real[np.ndarray, " n"]  # from low to high; from data that were published, shares
    partial: bool  # they are those of the kept examples, not of the whole split


@dataclasses.dataclass(frozen=True)
class StoredEvaluation:
    """The evaluation of one method."""

    row: str  # what the tables call it
    split: str  # the data evaluated
    images: int  # their number
    figures: dict[str, float]  # by name, in percent
    thresholds: Float[np.ndarray, " t"]  # of the curves
    # box metrics at every threshold by name, in percent; empty without boxes
    curves: dict[str, Float[np.ndarray, " t"]]
    precision_recall: PrecisionRecall | None  # None without masks
    histogram: Histogram  # of the maps' values
    # ends of the figures' 95 % intervals by name; empty where none were asked for
    intervals: dict[str, tuple[float, float]]
    # figures of the images whose object is about the same size, by its share of the image
    by_size: dict[str, dict[str, float]]
    by_class: dict[int, dict[str, float]]  # figures of the images of a class


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A run."""

    folder: pathlib.Path  # where it lies
    config: dict[str, Any]  # its configuration
    records: tuple[StoredEvaluation, ...]  # of the methods that were evaluated, see `row_order`
    # by the name of a stage, the validation figures before the first epoch and after every one
    history: dict[str, list[dict[str, float]]]
    class_names: ClassNames = ()
    damaged: tuple[str, ...] = ()  # a line on each file that was left out

    @property
    def seed(self) -> Any:
        """The seed of its configuration."""
        return setting(self.config, "seed")


def run_folders(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A run's folder, and where the evaluation lies that is reported on: in it, or in the folder of its split.

    Raises:
      InputError: the folder holds no run, or none that was evaluated.
    """
    home = folder if (folder / "config.json").exists() else folder.parent
    if not (home / "config.json").exists():
        raise InputError(f"{folder} holds no run: there is no {folder / 'config.json'}")
    for where in (folder, *(folder / split for split in SPLITS)):
        if any((where / EVALUATION).glob("*.json")):
            return home, where
    raise InputError(f"{folder} has no evaluation record in {folder / EVALUATION}; {_AGAIN}")


def read_run(folder: pathlib.Path) -> StoredRun:
    """Read a run's folder.

    Raises:
      InputError: it is no run, it was not evaluated, or none of its records can be used.
    """
    home, where = run_folders(folder)
    config = read_json(home / "config.json", "use the folder of another run")
    _check(config, home / "config.json")
    records, damaged = [], []
    for path in sorted((where / EVALUATION).glob("*.json")):
        try:
            records.append(read_record(path))
        except InputError as error:
            damaged.append(str(error))
    if not records:
        raise InputError(damaged[0])
    history = {}
    for log in sorted(home.glob("*/metrics.jsonl")):
        try:
            history[log.parent.name] = list(logged(log.parent, "val").values())
        except InputError as error:
            damaged.append(str(error))
    names: ClassNames = ()
    try:
        names = names_of_run(where) or names_of_run(home)
    except InputError as error:
        damaged.append(str(error))
    records.sort(key=lambda record: row_order(record.row))
    return StoredRun(where, config, tuple(records), history, names, tuple(damaged))


def read_record(path: pathlib.Path) -> StoredEvaluation:
    """Read the evaluation of one method.

    Raises:
      InputError: the file is damaged, or of another version of the program.
    """
    fields = read_json(path, _AGAIN)
    if fields.get("version") != VERSION:
        raise InputError(f"{path} is of version {fields.get('version')!r:.40} of the record, not {VERSION}; {_AGAIN}")
    try:
        return _record(fields)
    except ODD as error:
        raise InputError(f"{path} is damaged ({why(error)}); {_AGAIN}") from error


def why(error: Exception) -> str:
    """What is odd about a record, in short."""
    return f"there is no {error}" if isinstance(error, KeyError) else first_line(error)


def _check(config: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raise an `InputError` where a setting that the report reads is none."""
    try:
        settings_key(config)
    except RecursionError:
        raise InputError(f"{path} is damaged (it is nested too deeply); use the folder of another run") from None
    for key, kind in _SETTINGS.items():
        if not isinstance(value := setting(config, key), kind | None):
            raise InputError(f"{path} is damaged (its {key} is {value!r:.40}); use the folder of another run")


def _record(fields: Mapping[str, Any]) -> StoredEvaluation:
    thresholds = _numbers(fields["thresholds"])
    curves = {name: _numbers(curve) for name, curve in fields["curves"].items()}
    if any(len(curve) != len(thresholds) for curve in curves.values()):
        raise ValueError("curves and thresholds differ in length")
    counts = np.array(fields["histogram"]["counts"], np.int64)
    if counts.shape != (BINS,):
        raise ValueError(f"the histogram has not {BINS} bins")
    curve = fields["precision_recall"]
    return StoredEvaluation(
        row=str(fields["row"]),
        split=str(fields["split"]),
        images=int(fields["images"]),
        figures=_figures(fields["metrics"]),
        thresholds=thresholds,
        curves=curves,
        precision_recall=None if curve is None else _precision_recall(curve),
        histogram=Histogram(counts, fields["histogram"]["source"] == FROM_EXAMPLES),
        intervals={name: (finite(low), finite(high)) for name, (low, high) in fields["intervals_95"].items()},
        by_size=_parts(fields["by_size"]),
        by_class={int(label): figures for label, figures in _parts(fields["by_class"]).items()},
    )


def _parts(fields: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {part: {"images": 0.0, **_figures(figures)} for part, figures in fields.items()}


def _figures(fields: Mapping[str, Any]) -> dict[str, float]:
    return {name: finite(value) for name, value in fields.items()}


def finite(value: Any) -> float:
    """The value as a number.

    Raises:
      ValueError: it is none, or not finite.
    """
    if not math.isfinite(number := float(value)):
        raise ValueError("a figure is not finite")
    return number


def _precision_recall(fields: Mapping[str, Any]) -> PrecisionRecall:
    precision, recall = _numbers(fields["precision"]), _numbers(fields["recall"])
    if len(precision) != len(recall):
        raise ValueError("precision and recall differ in length")
    return PrecisionRecall(precision, recall, fields["source"] == FROM_EXAMPLES)


def _numbers(values: Any) -> Float[np.ndarray, " n"]:
    numbers = np.array(values, np.float64)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError("a curve is no list of numbers")
    return numbers
