"""Figures of a folder of score maps, as a record for a file, and a row for each image.

Whatever is wrong is said before the maps are read, but for what is in them.
"""

import csv
import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fcam_jax.component import at_key, at_least
from fcam_jax.errors import InputError
from fcam_jax.evaluation.findings import Sample
from fcam_jax.evaluation.metric import Scored, thresholds
from fcam_jax.evaluation.metrics import METRICS, kinds
from fcam_jax.evaluation.predictions import read_predictions
from fcam_jax.evaluation.result import Evaluation
from fcam_jax.evaluation.score_map import checked_score_map
from fcam_jax.evaluation.score_map_folder import ScoreMapFolder
from fcam_jax.evaluation.stream import TOGETHER, Wanted, each, evaluate_each
from fcam_jax.runtime.progress import counted
from fcam_jax.runtime.text import listed

Warn = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """What is evaluated, and how.

    Attributes:
      scoremaps: folder of the maps, <image_id>.npy
      metadata: folder of the split's four text files
      masks: folder that mask paths start from
      predictions: lines image_id,c1,c2,...: predicted classes, best first
      out: JSON file for all figures and counts
      per_image: CSV file for a row per image; reads the maps once more
      threshold_step: distance of two thresholds
      size: side of the frame of evaluation in pixels
      minmax: scale maps of the frame's size to [0, 1] too
      num_classes: labels and predictions must be below it
      at_threshold: also report box accuracy at this threshold
      bootstrap: replicates for 95 % intervals, e.g. 1000
      seed: of the bootstrap
      also: more figures, with commas between
    """

    scoremaps: pathlib.Path
    metadata: pathlib.Path
    masks: pathlib.Path | None = None
    predictions: pathlib.Path | None = None
    out: pathlib.Path | None = None
    per_image: pathlib.Path | None = None
    threshold_step: float = 0.001
    size: int = 224
    minmax: bool = False
    num_classes: int | None = None
    at_threshold: float | None = None
    bootstrap: int = 0
    seed: int = 0
    also: str = ""

    def __post_init__(self) -> None:
        with at_key("--"):
            at_least(self, size=1, bootstrap=0, seed=0)
            thresholds(self.threshold_step)
            kinds(self.extras)
            for name in ("out", "per_image"):
                _check_writable(name, getattr(self, name))

    @property
    def extras(self) -> list[str]:
        """The names in `also`."""
        return [name.strip() for name in self.also.split(",") if name.strip()]


def evaluate_folder(options: FolderOptions, warn: Warn) -> tuple[Evaluation, dict[str, Any]]:
    """Evaluate a folder of score maps, and write the rows that are asked for.

    Args:
      options: which and how.
      warn: is told what a user should know.

    Returns:
      The evaluation, and what the file of all figures is to hold.

    Raises:
      InputError: for options that contradict each other, and whatever cannot be used in the files they name.
    """
    folder = ScoreMapFolder(
        maps=options.scoremaps,
        metadata=options.metadata,
        masks=options.masks,
        size=options.size,
        minmax=options.minmax,
        num_classes=options.num_classes,
    )
    at = _fixed(options, folder)
    settle_top5 = True
    if options.predictions is not None:
        predictions = read_predictions(options.predictions, folder.image_ids, folder.labels, options.num_classes)
        folder.ranks, settle_top5 = predictions.ranks, predictions.settle_top5
    if not settle_top5:
        warn(f"{options.predictions}: lists of fewer than five classes without the true one; no top-5 figures")
    if folder.surplus:
        warn(f"{options.scoremaps}: {len(folder.surplus)} map(s) of no image are left out: {listed(folder.surplus)}")
    wanted = Wanted(
        step=options.threshold_step,
        kinds=kinds(options.extras),
        bootstrap=options.bootstrap,
        seed=options.seed,
        parts=True,
    )
    groups = math.ceil(len(folder) / TOGETHER)
    found = evaluate_each(folder, wanted, at, lambda made: counted(made, "score maps", groups, f"{TOGETHER} images"))
    if found.constant:
        warn(f"{len(found.constant)} constant map(s) count as 0 everywhere: {listed(found.constant)}")
    if options.per_image is not None:
        _write_rows(folder, found, wanted, at, options.per_image)
    found = found if settle_top5 else found.without("top5")
    record = {
        "settings": dataclasses.asdict(options),
        "images": found.images,
        "metrics": found.metrics,
        "intervals_95": found.intervals,
        "thresholds": found.thresholds.tolist(),
        "best_thresholds": found.best_thresholds,
        **{name: {key: of.tolist() for key, of in counts.items()} for name, counts in found.counts.items()},
        "by_size": found.by_size,
        "by_class": {str(label): part for label, part in found.by_class.items()},
        "constant_maps": found.constant,
        "surplus_maps": len(folder.surplus),
    }
    return found, record


def _fixed(options: FolderOptions, folder: ScoreMapFolder) -> tuple[int, str] | None:
    """Position and name of the threshold that is given; checks that the ground truth allows what is asked for."""
    wanting = [f"--also={name}" for name in options.extras if folder.truth not in (METRICS[name].needs or folder.truth)]
    if options.at_threshold is not None and folder.truth != "boxes":
        wanting.append("--at_threshold")
    if wanting:
        there = "boxes" if folder.truth == "boxes" else "masks"
        needed = "masks" if folder.truth == "boxes" else "boxes"
        raise InputError(f"{wanting[0]} needs {needed}, but {options.metadata / 'localization.txt'} names {there}")
    if options.at_threshold is None:
        return None
    taus, tau = thresholds(options.threshold_step), options.at_threshold
    position = int(np.abs(taus - tau).argmin())
    if not abs(taus[position] - tau) < 1e-9:
        raise InputError(f"--at_threshold={tau:g} is none of the thresholds; the nearest is {taus[position]:g}")
    return position, f"{tau:g}"


def _write_rows(
    folder: ScoreMapFolder, found: Evaluation, wanted: Wanted, at: tuple[int, str] | None, path: pathlib.Path
) -> None:
    """A row for every image of a folder, in its order; see `Metric.row`."""
    tau = found.best_thresholds.get("MaxBoxAcc") if at is None else float(found.thresholds[at[0]])

    def row(sample: Sample) -> dict[str, Any]:
        truth = sample.annotation
        image = Scored(checked_score_map(sample.score_map, truth.image_id), truth, sample.rank)
        told = {"image_id": truth.image_id, "label": truth.label}
        told |= {} if sample.rank is None else {"rank": sample.rank}
        for kind in wanted.kinds:
            if kind.measurable(truth):
                told |= kind.empty(wanted.step).row(image, tau)
        return told

    rows = counted(each(folder, row), "rows", len(folder), "image")
    first = next(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)


def _check_writable(name: str, path: pathlib.Path | None) -> None:
    if path is None:
        return
    new = not path.exists()
    try:
        with path.open("a"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise InputError(f"{name}={path} cannot be written ({error.strerror})") from error
