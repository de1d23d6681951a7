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

from fcam_jax.configuration.flat import setting
from fcam_jax.errors import InputError
from fcam_jax.evaluation.activations import BINS
from fcam_jax.runs.class_names import ClassNames, names_of_run
from fcam_jax.runs.report.paper import row_order
from fcam_jax.runs.report.record import EVALUATION, FROM_EXAMPLES, VERSION
from fcam_jax.runtime import records
from fcam_jax.runtime.files import RECORD, read_regular

_AGAIN = "evaluate the run again (--mode=eval)"


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

    @property
    def seed(self) -> Any:
        """The seed of its configuration."""
        return setting(self.config, "seed")


def read_run(folder: pathlib.Path) -> StoredRun:
    """Read a run's folder.

    Raises:
      InputError: it is no run, it was not evaluated, or a file in it is damaged.
    """
    # The evaluation of another split than test lies in a folder of its own in the run's.
    home = folder if (folder / "config.json").is_file() else folder.parent
    path = home / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no run: there is no {folder / 'config.json'}")
    config = records.read_record(path, "use the folder of another run")
    files = sorted((folder / EVALUATION).glob("*.json"))
    if not files:
        raise InputError(f"{folder} has no evaluation record in {folder / EVALUATION}; {_AGAIN}")
    found = sorted(map(read_record, files), key=lambda record: row_order(record.row))
    logs = sorted(home.glob("*/metrics.jsonl"))
    history = {log.parent.name: read_history(log) for log in logs}
    return StoredRun(folder, config, tuple(found), history, names_of_run(folder) or names_of_run(home))


def read_record(path: pathlib.Path) -> StoredEvaluation:
    """Read the evaluation of one method.

    Raises:
      InputError: the file is damaged, or of another version of the program.
    """
    fields = records.read_record(path, _AGAIN)
    if fields.get("version") != VERSION:
        raise InputError(f"{path} is of version {fields.get('version')} of the record, not {VERSION}; {_AGAIN}")
    try:
        return _record(fields)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is damaged ({reason}); {_AGAIN}") from error


def read_history(path: pathlib.Path) -> list[dict[str, float]]:
    """The validation figures in a stage's metric log, in the order of its epochs.

    Raises:
      InputError: a line is damaged. The last may be cut short: a run that was killed leaves it so.
    """
    lines = read_regular(path, RECORD).decode(errors="replace").splitlines()
    history = []
    for number, line in enumerate(lines, 1):
        try:
            entry = records.parsed(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise InputError(f"{path}, line {number} is damaged; delete the line") from error
        if entry.get("kind") == "val":
            history.append({name: float(value) for name, value in entry.items() if isinstance(value, float | int)})
    return history


def _record(fields: Mapping[str, Any]) -> StoredEvaluation:
    thresholds = _numbers(fields["thresholds"])
    curves = {name: _numbers(curve) for name, curve in fields["curves"].items()}
    if any(len(curve) != len(thresholds) for curve in curves.values()):
        raise ValueError("curves and thresholds differ in length")
    figures = {name: float(value) for name, value in fields["metrics"].items()}
    if not all(map(math.isfinite, figures.values())):
        raise ValueError("a figure is not finite")
    counts = np.array(fields["histogram"]["counts"], np.int64)
    if counts.shape != (BINS,):
        raise ValueError(f"the histogram has not {BINS} bins")
    curve = fields["precision_recall"]
    return StoredEvaluation(
        row=str(fields["row"]),
        split=str(fields["split"]),
        images=int(fields["images"]),
        figures=figures,
        thresholds=thresholds,
        curves=curves,
        precision_recall=None if curve is None else _precision_recall(curve),
        histogram=Histogram(counts, fields["histogram"]["source"] == FROM_EXAMPLES),
        intervals={name: (float(low), float(high)) for name, (low, high) in fields["intervals_95"].items()},
        by_size=_parts(fields["by_size"]),
        by_class={int(label): figures for label, figures in _parts(fields["by_class"]).items()},
    )


def _parts(fields: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {part: {name: float(value) for name, value in figures.items()} for part, figures in fields.items()}


def _precision_recall(fields: Mapping[str, Any]) -> PrecisionRecall:
    precision, recall = _numbers(fields["precision"]), _numbers(fields["recall"])
    if len(precision) != len(recall):
        raise ValueError("precision and recall differ in length")
    return PrecisionRecall(precision, recall, fields["source"] == FROM_EXAMPLES)


def _numbers(values: Any) -> Float[np.ndarray, " n"]:
    numbers = np.array(values, np.float64)
    if numbers.ndim != 1:
        raise ValueError("a curve is no list of numbers")
    return numbers
