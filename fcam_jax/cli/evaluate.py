"""Figures of score maps from any program, by the evaluation protocol of Choe et al. (CVPR 2020).

    python -m fcam_jax.cli.evaluate --scoremaps=DIR --metadata=DIR/test --out=metrics.json

The folder of score maps holds `<image_id>.npy` for every image of the split. `docs/evaluation.md` says what the figures
mean and what the options do.
"""

import argparse
import csv
import functools
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fcam_jax.data.layouts.metadata import listed
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.evaluation.bootstrap import Bootstrap
from fcam_jax.evaluation.box_accuracy import BoxAccuracy
from fcam_jax.evaluation.findings import PROTOCOL, Findings, figures
from fcam_jax.evaluation.folder_findings import image_rows, measure_folder
from fcam_jax.evaluation.metric import Metric, thresholds
from fcam_jax.evaluation.pixel_precision import PixelPrecision
from fcam_jax.evaluation.pointing_game import PointingGame
from fcam_jax.evaluation.predictions import read_predictions
from fcam_jax.evaluation.score_map_folder import ScoreMapFolder

EXTRAS = ("MeanBestIoU", "PointingGame")


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate a folder of score maps.

    Returns:
      What `--out` is to hold.

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
    _check(options, folder)
    taus = thresholds(options.threshold_step)
    fixed = None if options.at_threshold is None else _position(options.at_threshold, taus)
    ranks = None
    left_out: tuple[str, ...] = ()
    if options.predictions is not None:
        predictions = read_predictions(options.predictions, folder.image_ids, folder.labels, options.num_classes)
        ranks = predictions.ranks
        if not folder.has_boxes:
            _warn(f"{options.predictions}: predictions play no part in PxAP; their ranks go into --per_image only")
        if not predictions.settle_top5:
            left_out = ("top5",)
            _warn(f"{options.predictions}: lists of fewer than five classes without the true one; no top-5 figures")
    if folder.surplus:
        _warn(f"{options.scoremaps}: {len(folder.surplus)} map(s) of no image are left out: {listed(folder.surplus)}")

    of = functools.partial(
        figures,
        at=None if fixed is None else (fixed, f"{options.at_threshold:g}"),
        mean_best_iou="MeanBestIoU" in options.also,
    )
    kinds: Sequence[type[Metric]] = [*PROTOCOL, PointingGame] if "PointingGame" in options.also else PROTOCOL
    bootstrap = Bootstrap(options.bootstrap, options.seed) if options.bootstrap else None
    findings, constant = measure_folder(folder, ranks, kinds, options.threshold_step, bootstrap)
    if constant:
        _warn(f"{len(constant)} constant map(s) count as 0 everywhere: {listed(constant)}")
    record = {
        "settings": vars(options),
        "images": len(folder),
        "metrics": of(findings.totals),
        "intervals_95": bootstrap.intervals(of) if bootstrap else {},
        **_by_threshold(findings, taus),
        "constant_maps": constant,
        "surplus_maps": len(folder.surplus),
    }
    if options.per_image is not None:
        tau = record["best_thresholds"].get("MaxBoxAcc") if fixed is None else float(taus[fixed])
        _write_rows(image_rows(folder, ranks, options.threshold_step, tau), options.per_image)
    return _without(record, left_out)


def _by_threshold(findings: Findings, taus: np.ndarray) -> dict[str, Any]:
    """Thresholds and the counts at each, and the figures of parts of the split at the best ones."""
    boxes, pixels = (findings.totals.get(kind) for kind in PROTOCOL)
    record: dict[str, Any] = {"thresholds": taus.tolist()}
    record["best_thresholds"] = {name: record["thresholds"][place] for name, place in findings.best().items()}
    if isinstance(boxes, BoxAccuracy):
        record["correct"] = {name: counts.tolist() for name, counts in boxes.correct().items()}
    if isinstance(pixels, PixelPrecision):
        record["pixels"] = {name: pixels.counts[name].tolist() for name in ("foreground", "background")}
    record["by_size"] = findings.by_size()
    record["by_class"] = {str(label): part for label, part in findings.by_class().items()}
    return record


def table(record: Mapping[str, Any]) -> str:
    """The figures for people: of the whole split, and by the object's size."""
    best, intervals = record["best_thresholds"], record["intervals_95"]
    rows = [["", "percent", "95 % interval", "threshold"]]
    for name, value in record["metrics"].items():
        if not name.endswith("_threshold"):
            interval = "{:.1f} to {:.1f}".format(*intervals[name]) if name in intervals else ""
            given = name.partition("_at_")[2]
            threshold = f"{best[name]:g} (best)" if name in best else given and f"{given} (given)"
            rows.append([name, f"{value:.2f}", interval, threshold])
    parts = record["by_size"].values()
    sizes = [["object's share of the image", *record["by_size"]]]
    sizes.append(["images", *(str(part["images"]) for part in parts)])
    for name in dict.fromkeys(name for part in parts for name in part if name != "images"):
        sizes.append([name, *(f"{part[name]:.2f}" if name in part else "" for part in parts)])
    return f"{record['images']} images\n\n{_aligned(rows)}\n\n{_aligned(sizes)}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width; those without an entry are left out."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for first, *others in zip(*columns, strict=True):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _check(options: argparse.Namespace, folder: ScoreMapFolder) -> None:
    """Raise for what would otherwise come to light after the work."""
    for name in options.also:
        if name not in EXTRAS:
            raise unknown_name("--also figure", name, EXTRAS)
    if not folder.has_boxes and (options.at_threshold is not None or "MeanBestIoU" in options.also):
        option = "--also=MeanBestIoU" if "MeanBestIoU" in options.also else "--at_threshold"
        raise InputError(f"{option} needs boxes, but {options.metadata / 'localization.txt'} names masks")
    if options.bootstrap < 0 or options.seed < 0:
        raise InputError(f"--bootstrap={options.bootstrap} and --seed={options.seed} must not be negative")
    for name in ("out", "per_image"):
        path = getattr(options, name)
        if path is not None:
            _check_writable(f"--{name}={path}", path)


def _check_writable(option: str, path: pathlib.Path) -> None:
    new = not path.exists()
    try:
        with path.open("a"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise InputError(f"{option} cannot be written ({error.strerror})") from error


def _position(tau: float, taus: np.ndarray) -> int:
    """Where a threshold stands among those that are evaluated."""
    position = int(np.abs(taus - tau).argmin())
    if not abs(taus[position] - tau) < 1e-9:
        raise InputError(f"--at_threshold={tau:g} is none of the thresholds; the nearest is {taus[position]:g}")
    return position


def _write_rows(rows: Iterator[dict[str, Any]], path: pathlib.Path) -> None:
    first = next(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)


def _without(record: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    """A record without the figures of these beginnings, at any depth."""
    return {
        name: _without(value, prefixes) if isinstance(value, Mapping) else value
        for name, value in record.items()
        if not name.startswith(prefixes)
    }


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fcam evaluate", description=main.__doc__, allow_abbrev=False)
    path = pathlib.Path
    parser.add_argument("--scoremaps", type=path, required=True, help="folder of the maps, <image_id>.npy")
    parser.add_argument("--metadata", type=path, required=True, help="folder of the split's four text files")
    parser.add_argument("--masks", type=path, help="folder that mask paths start from")
    parser.add_argument("--predictions", type=path, help="lines image_id,c1,c2,...: predicted classes, best first")
    parser.add_argument("--out", type=path, help="JSON file for all figures and counts")
    parser.add_argument("--per_image", type=path, help="CSV file for a row per image; reads the maps once more")
    parser.add_argument("--threshold_step", type=float, default=0.001, help="distance of two thresholds")
    parser.add_argument("--size", type=int, default=224, help="side of the frame of evaluation in pixels")
    parser.add_argument("--minmax", action="store_true", help="scale maps of the frame's size to [0, 1] too")
    parser.add_argument("--num_classes", type=int, help="labels and predictions must be below it")
    parser.add_argument("--at_threshold", type=float, help="also report box accuracy at this threshold")
    parser.add_argument("--bootstrap", type=int, default=0, metavar="REPLICATES", help="for 95 %% intervals; e.g. 1000")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--also", type=_names, default=(), help=f"more figures, of {','.join(EXTRAS)}")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate a folder of score maps by the protocol."""
    options = _parser().parse_args(arguments)
    try:
        record = evaluate(options)
        if options.out is not None:
            lines = [f"{json.dumps(name)}: {json.dumps(value, default=str)}" for name, value in record.items()]
            options.out.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(table(record))
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot be read or written: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


if __name__ == "__main__":
    main()
