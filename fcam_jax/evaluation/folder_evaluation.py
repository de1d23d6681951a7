"""Figures of a folder of score maps, in a file where that is asked for, and a row for each image.

Whatever is wrong is said before the maps are read, but for what is in them.
"""

import dataclasses
import errno
import functools
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fcam_jax.component import at_key
from fcam_jax.errors import InputError
from fcam_jax.evaluation.box_accuracy import DEFAULT_THRESHOLD
from fcam_jax.evaluation.findings import At, Wanted
from fcam_jax.evaluation.metric import thresholds
from fcam_jax.evaluation.metrics import METRICS, extras, kinds, localizing, named
from fcam_jax.evaluation.plausibility import Plausibility
from fcam_jax.evaluation.predictions import read_predictions
from fcam_jax.evaluation.result import Evaluation
from fcam_jax.evaluation.score_map_folder import FolderOptions, ScoreMapFolder
from fcam_jax.evaluation.stream import TOGETHER, each, evaluate_each
from fcam_jax.runtime.files import replace_file, write_table
from fcam_jax.runtime.progress import counted
from fcam_jax.runtime.text import listed


def evaluate_folder(options: FolderOptions, warn: Callable[[str], None]) -> Evaluation:
    """Evaluate a folder of score maps, and write the files that are asked for; `warn` is told what a user should know.

    Raises InputError: for options that contradict each other, and whatever cannot be used in the files they name.
    """
    folder = ScoreMapFolder(options)
    for option, path in (("--out", options.out), ("--per_image", options.per_image)):
        if path is not None:
            _check_writable(option, path)
    with at_key("--"):
        taus, measured = thresholds(options.threshold_step), kinds(options.also)
    at = _given(options, folder, taus)
    complete = True
    if options.predictions is not None:
        folder.ranks, complete, warnings = read_predictions(
            options.predictions, folder.image_ids, folder.labels, folder.num_classes, folder.class_names
        )
        for line in warnings:
            warn(line)
    for line in folder.aspects():
        warn(line)
    if folder.surplus:
        warn(f"{options.scoremaps}: {len(folder.surplus)} map(s) of no image are left out: {listed(folder.surplus)}")
    of = {name: getattr(options, name) for name in ("bootstrap", "seed")}
    wanted = Wanted(step=options.threshold_step, kinds=(*measured, Plausibility), parts=True, **of)
    count = len(folder.image_ids)
    groups = math.ceil(count / TOGETHER)
    watched = functools.partial(counted, title="score maps", total=groups, unit=f"{TOGETHER} images")
    found = evaluate_each(folder.load, count, wanted, at, watched)
    for line in found.warnings:
        warn(line)
    if options.per_image is not None:
        best = localizing(found.best_thresholds)
        tau = found.best_thresholds.get(best, DEFAULT_THRESHOLD) if at is None else float(taus[at[0]])
        if at is None and folder.truth == "boxes" and not best:
            warn(f"no box hits at any threshold, so none is best: those of the rows are at {tau:g}")
        _write_rows(folder, wanted, tau, options.per_image)
    found = found if complete else found.without("top5")
    if options.out is not None:
        _write(found, options, len(folder.surplus), options.out)
    return found


def _given(options: FolderOptions, folder: ScoreMapFolder, taus: np.ndarray) -> At | None:
    """The threshold that is given, after a check that the ground truth allows what is asked for."""
    needs = {name: METRICS[name].needs for name in named(options.also, extras())}
    wanting = [f"--also={name}" for name, fields in needs.items() if fields and folder.truth not in fields]
    if options.at_threshold is not None and folder.truth != "boxes":
        wanting.append("--at_threshold")
    if wanting:
        needed, there = ("masks", "boxes") if folder.truth == "boxes" else ("boxes", "masks")
        raise InputError(f"{wanting[0]} needs {needed}, but {options.metadata / 'localization.txt'} names {there}")
    if options.at_threshold is None:
        return None
    tau = options.at_threshold
    position = int(np.abs(taus - tau).argmin())
    if not abs(taus[position] - tau) < 1e-9:
        raise InputError(f"--at_threshold={tau:g} is none of the thresholds; the nearest is {taus[position]:g}")
    return position, f"{tau:g}"


def _write_rows(folder: ScoreMapFolder, wanted: Wanted, tau: float | None, path: pathlib.Path) -> None:
    """A row for every image of a folder, in its order; see `Metric.row`."""

    def row(position: int) -> dict[str, Any]:
        image = folder.load(position)
        truth = image.annotation
        told = {"image_id": truth.image_id, "label": truth.label}
        told |= {} if image.rank is None else {"rank": image.rank}
        for kind in wanted.kinds:
            told |= kind(wanted.step).row(image, tau) if kind.measurable(truth) else {}
        return told

    count = len(folder.image_ids)
    columns = list(row(int(folder.has_object.argmax())))  # of an image without an object there are fewer
    write_table(path.resolve(), counted(each(row, count), "rows", count, "image"), columns)


def _write(found: Evaluation, options: FolderOptions, surplus: int, path: pathlib.Path) -> None:
    """A line for each key of what the file of all figures is to hold."""
    record = {
        "settings": dataclasses.asdict(options),
        "images": found.images,
        "without_object": found.without_object,
        "metrics": found.metrics,
        "intervals_95": found.intervals,
        "thresholds": found.thresholds.tolist(),
        "best_thresholds": found.best_thresholds,
        **{name: {key: of.tolist() for key, of in counts.items()} for name, counts in found.counts.items()},
        "by_size": found.by_size,
        "by_class": found.by_class,
        "constant_maps": found.constant,
        "surplus_maps": surplus,
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value, default=str)}" for name, value in record.items()]
    replace_file(path.resolve(), "{\n" + ",\n".join(lines) + "\n}\n", sync=False)


def _check_writable(option: str, path: pathlib.Path) -> None:
    new = not path.exists()
    try:
        if not (new or path.is_file() or path.is_dir()):  # to open a pipe is to wait, and a device would be replaced
            raise OSError(errno.EINVAL, "not a file")
        with path.open("a"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise InputError(f"{option}={path} cannot be written ({error.strerror})") from error
