"""A run's folder as the report sees it: configuration, records of evaluations, validation figures, kept examples.

Whatever is missing or damaged is one `InputError`, or one line, that names the file; the rest stands.
"""

import dataclasses
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Float, Int, Real, UInt8

from fcam_jax.configuration.flat import setting, settings_key
from fcam_jax.configuration.keys import of_today
from fcam_jax.data.source import SPLITS
from fcam_jax.errors import InputError
from fcam_jax.evaluation.activations import BINS
from fcam_jax.runs.class_names import ClassNames, class_title, names_of_run
from fcam_jax.runs.report.paper import row_order
from fcam_jax.runs.report.record import EVALUATION, EXAMPLES, OBJECT, UNDECIDED, VERSION
from fcam_jax.runtime.files import IMAGE, RECORD, read_regular
from fcam_jax.runtime.records import parsed
from fcam_jax.runtime.records import read_record as read_json
from fcam_jax.runtime.text import file_name, first_line
from fcam_jax.training.metric_log import logged
from fcam_jax.types import Annotation, Image

Levels = UInt8[np.ndarray, "h w"]
Figures = dict[str, float]  # by name, in percent

_AGAIN = "evaluate the run again (--mode=eval)"
_ANOTHER = "use the folder of another run"
# What a record of odd values may raise.
_ODD = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
# Settings that are read, by what they must be, where they are there.
_SETTINGS = {
    **dict.fromkeys(("data.name", "data.source", "model.encoder", "cam.name", "classifier.method"), str),
    **{"validation.selection": str, "fcam.seeds.background_fraction": int | float, "fcam.loss": dict},
}


@dataclasses.dataclass(frozen=True)
class StoredEvaluation:
    """The evaluation of one method."""

    row: str  # what the tables call it
    split: str  # the data evaluated
    images: int  # their number
    figures: Figures
    thresholds: Float[np.ndarray, " t"]  # of the curves
    curves: dict[str, Float[np.ndarray, " t"]]  # box metrics at every threshold, in percent; empty without boxes
    # both in [0, 1], from high thresholds to low; None without masks
    precision_recall: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]] | None
    histogram: Real[np.ndarray, "256"]  # pixels with a value in ``[i, i + 1) / 256``; of published data, shares
    intervals: dict[str, tuple[float, float]]  # ends of the figures' 95 % intervals; empty where none were asked for
    by_size: dict[str, Figures]  # of the images whose object is about the same size, by its share of the image
    by_class: dict[int, Figures]  # of the images of a class


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A run."""

    folder: pathlib.Path
    config: dict[str, Any]
    records: tuple[StoredEvaluation, ...]  # of the methods that were evaluated, see `row_order`
    history: dict[str, dict[int, Figures]]  # by stage and step, the validation figures of every epoch
    kept: dict[str, int] = dataclasses.field(default_factory=dict)  # by stage, the step of the model that was evaluated
    # By method, what was wrong at the end of its training: why, by what.
    marks: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    # By method, the weights that its training started from: what they are called, their source, SHA-256.
    started: dict[str, list[tuple[str, str, str]]] = dataclasses.field(default_factory=dict)
    class_names: ClassNames = ()
    damaged: tuple[str, ...] = ()  # a line on each file that was left out

    @property
    def seed(self) -> Any:
        """The seed of its configuration."""
        return setting(self.config, "seed")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a method localizes in an image at its best threshold; see `record.Localized`."""

    row: str  # the method
    levels_file: pathlib.Path  # its score map, as 8-bit levels
    threshold: float
    box: Int[np.ndarray, " 4"] | None
    iou: float | None
    rank: int | None  # how many classes were predicted before the true one, if known
    predicted: int | None  # the class predicted first, if known


@dataclasses.dataclass(frozen=True)
class StoredExample:
    """An image of the evaluated split."""

    image_id: str  # its key in the data set
    label: int
    class_name: str  # see `class_title`
    image_file: pathlib.Path  # at evaluation size
    mask_file: pathlib.Path | None  # its true mask, if there is one
    boxes: Int[np.ndarray, "n 4"] | None  # its true boxes, if there are any
    findings: tuple[Finding, ...]  # of every method that kept the image


@dataclasses.dataclass(frozen=True)
class Pixels:
    """An example's pixels, all of one size."""

    image: Image
    jpeg: bytes  # the file that holds it
    mask: Levels | None  # 255 object, 128 undecided, 0 background; None without a mask
    levels: tuple[Levels, ...]  # the methods' score maps

    def truth(self, example: StoredExample) -> Annotation:
        """The example's ground truth."""
        truth = Annotation(example.image_id, example.label, example.boxes)
        if self.mask is None:
            return truth
        return dataclasses.replace(truth, mask=self.mask == OBJECT, ignore=self.mask == UNDECIDED)


def run_folders(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A run's folder, and where the evaluation lies that is reported on: in it, or in the folder of its split.

    Raises an `InputError` where the folder holds no run, or none that was evaluated.
    """
    home = folder if (folder / "config.json").exists() else folder.parent
    if not (home / "config.json").exists():
        raise InputError(f"{folder} holds no run: there is no {folder / 'config.json'}")
    for where in (folder, *(folder / split for split in SPLITS)):
        if any((where / EVALUATION).glob("*.json")):
            return home, where
    why = f"{folder} has no evaluation record in {folder / EVALUATION}"
    raise InputError(f"{why}; {_AGAIN}, on a split that the data has (--split)")


def read_run(folder: pathlib.Path) -> StoredRun:
    """Read a run's folder; an `InputError` where it is no run, was not evaluated, or no record of it can be used."""
    home, where = run_folders(folder)
    config = _config(home / "config.json")
    damaged: list[str] = []

    def tried(read: Any, *of: Any) -> list[Any]:
        """What is read, if it can be; else a line more of what is damaged."""
        try:
            return [read(*of)]
        except InputError as error:
            damaged.append(str(error))
            return []

    records = [one for path in sorted((where / EVALUATION).glob("*.json")) for one in tried(read_record, path)]
    if not records:
        raise InputError(damaged[0])
    logs = [log.parent for log in sorted(home.glob("*/metrics.jsonl"))]
    history = {stage.name: of for stage in logs for of in tried(logged, stage, "val")}
    kept, marks, started = next(iter(tried(_results, where / "results.json")), ({}, {}, {}))
    names = next(iter(tried(lambda: names_of_run(where) or names_of_run(home))), ())
    records.sort(key=lambda record: row_order(record.row))
    return StoredRun(where, config, tuple(records), history, kept, marks, started, names, tuple(damaged))


def _results(path: pathlib.Path) -> tuple[dict[str, int], dict[str, dict[str, str]], dict[str, list[Any]]]:
    """`StoredRun.kept`, `marks` and `started`; none where there are no results."""
    if not path.exists():
        return {}, {}, {}
    facts = read_json(path, _AGAIN, checkpoints=dict)
    try:
        rows, files = facts["checkpoints"], facts.get("pretrained", {})
        kept = {str(of["stage"]): int(of["step"]) for of in rows.values()}
        marks = {row: {str(name): str(why) for name, why in of.get("marks", {}).items()} for row, of in rows.items()}
        started = {row: _started(of) for row, of in files.items()}
    except _ODD as error:
        raise InputError(f"{path} is damaged ({first_line(error)}); {_AGAIN}") from error
    return kept, {row: found for row, found in marks.items() if found}, started


def _started(imported: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Weights by their name with their source, or by their path."""
    named = imported.get("download") or {}
    called, source = (str(named.get(key, "")) for key in ("name", "url"))
    return [(called or str(path), source, str(digest)) for path, digest in imported["files"].items()]


def read_record(path: pathlib.Path) -> StoredEvaluation:
    """Read the evaluation of one method; an `InputError` where it is damaged, or of another version of the program."""
    fields = read_json(path, _AGAIN)
    if fields.get("version") != VERSION:
        raise InputError(f"{path} is of version {fields.get('version')!r:.40} of the record, not {VERSION}; {_AGAIN}")
    try:
        return _record(fields)
    except _ODD as error:
        raise InputError(f"{path} is damaged ({_why(error)}); {_AGAIN}") from error


def read_examples(
    folder: pathlib.Path, rows: Sequence[str], names: ClassNames = ()
) -> tuple[list[StoredExample], list[str]]:
    """The examples of a run's methods, each image once with the findings of all of them, and a line for each left out.

    Classes are called by the names that are given.
    """
    examples: dict[str, StoredExample] = {}
    left_out = []
    for row in rows:
        path = folder / EVALUATION / EXAMPLES / f"{file_name(row)}.jsonl"
        try:
            lines = read_regular(path, RECORD).splitlines() if path.exists() else []
        except InputError as error:
            left_out.append(str(error))
            continue
        for number, line in enumerate(lines, 1):
            try:
                example = _example(parsed(line), path.parent, row, names)
            except _ODD as error:
                left_out.append(f"{path}, line {number}: damaged ({_why(error)})")
                continue
            first = examples.get(example.image_id)
            found = (*first.findings, *example.findings) if first else example.findings
            examples[example.image_id] = dataclasses.replace(first or example, findings=found)
    return list(examples.values()), left_out


def read_pixels(example: StoredExample) -> Pixels:
    """The pixels of an example; an `InputError` where a file is missing or damaged, or they differ in size."""
    image, jpeg = _read(example.image_file, "RGB")
    size = image.shape[:2]
    mask = None if example.mask_file is None else _read(example.mask_file, "L", size)[0]
    return Pixels(image, jpeg, mask, tuple(_read(finding.levels_file, "L", size)[0] for finding in example.findings))


def _why(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else first_line(error)


def _config(path: pathlib.Path) -> dict[str, Any]:
    """The recorded configuration, in which the settings that the report reads are such."""
    config = read_json(path, _ANOTHER)
    try:
        settings_key(config)
    except RecursionError:
        raise InputError(f"{path} is damaged (it is nested too deeply); {_ANOTHER}") from None
    for key, kind in _SETTINGS.items():
        if not isinstance(value := setting(config, key), kind | None):
            raise InputError(f"{path} is damaged (its {key} is {value!r:.40}); {_ANOTHER}")
    return of_today(config)


def _record(fields: Mapping[str, Any]) -> StoredEvaluation:
    counts, curve = np.array(fields["histogram"]["counts"], np.int64), fields["precision_recall"]
    if counts.shape != (BINS,):
        raise ValueError(f"the histogram has not {BINS} bins")
    thresholds, *curves = _curves([fields["thresholds"], *fields["curves"].values()], "curves and thresholds")
    return StoredEvaluation(
        row=str(fields["row"]),
        split=str(fields["split"]),
        images=int(fields["images"]),
        figures=_figures(fields["metrics"]),
        thresholds=thresholds,
        curves=dict(zip(fields["curves"], curves, strict=True)),
        precision_recall=curve and tuple(_curves([curve["precision"], curve["recall"]], "precision and recall")),
        histogram=counts,
        intervals={name: (_finite(low), _finite(high)) for name, (low, high) in fields["intervals_95"].items()},
        by_size={part: _figures(of, images=0.0) for part, of in fields["by_size"].items()},
        by_class={int(label): _figures(of, images=0.0) for label, of in fields["by_class"].items()},
    )


def _figures(fields: Mapping[str, Any], **least: float) -> Figures:
    return least | {name: _finite(value) for name, value in fields.items()}


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError("a figure is not finite")
    return number


def _curves(given: Sequence[Any], names: str) -> list[Float[np.ndarray, " n"]]:
    curves = [np.array(values, np.float64) for values in given]
    if any(curve.ndim != 1 or not np.isfinite(curve).all() for curve in curves):
        raise ValueError("a curve is no list of numbers")
    if len(set(map(len, curves))) > 1:
        raise ValueError(f"{names} differ in length")
    return curves


def _example(facts: Any, folder: pathlib.Path, row: str, names: ClassNames) -> StoredExample:
    key, threshold, label, iou = str(facts["key"]), _finite(facts["threshold"]), int(facts["label"]), facts["iou"]
    if not (key.isalnum() and key.isascii() and len(key) < 100):
        raise ValueError("the key is no name of a file")
    if not 0 <= threshold < 1:
        raise ValueError("the threshold is none")

    def whole(name: str, *shape: int) -> Any:
        return None if facts[name] is None else np.array(facts[name], np.int64).reshape(shape)

    rank, predicted = (None if (number := whole(name)) is None else int(number) for name in ("rank", "predicted"))
    levels = folder / file_name(row) / f"{key}.png"
    iou = None if iou is None else _finite(iou)
    finding = Finding(row, levels, threshold, whole("box", 4), iou, rank, predicted)
    image, mask = folder / f"{key}.jpg", folder / f"{key}.mask.png" if facts["mask"] else None
    title, boxes = class_title(names, label), whole("boxes", -1, 4)
    return StoredExample(str(facts["image_id"]), label, title, image, mask, boxes, (finding,))


def _read(path: pathlib.Path, mode: str, size: tuple[int, ...] | None = None) -> tuple[np.ndarray, bytes]:
    """Pixels of a file, which must be of a mode, and of a height and width; and the file itself."""
    data = read_regular(path, IMAGE)
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            if image.mode != mode:
                raise ValueError(f"it holds {image.mode} pixels, not {mode}")
            pixels = np.asarray(image)
    except Exception as error:  # the parsers in Pillow raise what they stumble over, there is no closed list
        odd = "not an image" if isinstance(error, PIL.UnidentifiedImageError) else f"cannot be read ({_why(error)})"
        raise InputError(f"{path}: {odd}") from error
    if size is not None and pixels.shape[:2] != size:
        raise InputError(f"{path}: has {pixels.shape[0]} x {pixels.shape[1]} pixels, the image {size[0]} x {size[1]}")
    return pixels, data
