"""A data set of the protocol made ready for training, out of whatever its user has: folders or archives.

    python -m fcam_jax.cli.prepare --dataset=cub --source=DOWNLOADS --data_dir=DATA

What is written is read by `--config.data.source=tfds`. `docs/data/` has a page for each data set.
"""

import argparse
import contextlib
import dataclasses
import errno
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fcam_jax.data.layouts.labels import folder_names
from fcam_jax.data.layouts.metadata import Metadata
from fcam_jax.data.published import metadata as wsol_metadata
from fcam_jax.data.published import sample_page
from fcam_jax.data.published.check import CheckedSplit
from fcam_jax.data.published.datasets import DATASETS, SPLITS, VERSION, WsolDataset, dataset_called
from fcam_jax.data.published.files import SourceFolder, names_of, nothing_found
from fcam_jax.data.published.identity import Identity
from fcam_jax.data.source import fingerprint
from fcam_jax.errors import InputError
from fcam_jax.runtime.lock import held

_NAMED = 5  # images that cannot be used and are named in a message
PROBLEMS, LEFT_OUT, SAMPLES = "problems.txt", "left_out.txt", "samples.html"


def prepare(options: argparse.Namespace) -> pathlib.Path:
    """Prepare a data set, unless it is prepared.

    Returns:
      The folder that it is in.

    Raises:
      InputError: for whatever the user can mend.
      OSError: the disk is full, or cannot be written.
    """
    dataset = dataset_called(options.dataset)
    folder = options.data_dir / dataset.name / VERSION
    if (folder / "dataset_info.json").exists():
        print(f"{folder} is prepared already; remove it to prepare it again")
    else:
        with _work_folder(options.data_dir, dataset) as work:
            _write(dataset, options, work)
    shutil.rmtree(options.data_dir / f"{dataset.name}.work", ignore_errors=True)
    return folder


def _write(dataset: WsolDataset, options: argparse.Namespace, work: pathlib.Path) -> None:
    from fcam_jax.data.published.builder import WsolBuilder  # takes a second

    source = SourceFolder(options.source, work)
    texts = _texts(dataset, options, work)
    checked = _located(dataset, options, source, {name: split.metadata for name, split in texts.items()}, work)
    unusable = _checked(checked, options, work)
    left_out = {name: texts[name].left_out + lines for name, lines in unusable.items()}
    facts = _facts(dataset, checked, left_out)
    builder = WsolBuilder(
        dataset,
        checked,
        facts={"partial": options.partial, "splits": facts},
        data_dir=options.data_dir,
        kept=work,
        workers=options.workers,
    )
    builder.prepare()


@contextlib.contextmanager
def _work_folder(data_dir: pathlib.Path, dataset: WsolDataset) -> Iterator[pathlib.Path]:
    """The folder of what is half done; no other call may use it at the same time."""
    work, stack = data_dir / f"{dataset.name}.work", contextlib.ExitStack()
    try:
        work.mkdir(parents=True, exist_ok=True)
        complaint = f"--data_dir={data_dir}: {dataset.name} is being prepared by another call"
        stack.enter_context(held(work / "lock", complaint))
    except OSError as error:
        raise InputError(f"--data_dir={data_dir} cannot be written ({error.strerror})") from error
    with stack:
        for stale in (data_dir / dataset.name).glob(f"incomplete.*_{VERSION}"):
            shutil.rmtree(stale)  # what TFDS leaves behind when it is killed
        yield work


def _texts(
    dataset: WsolDataset, options: argparse.Namespace, work: pathlib.Path
) -> dict[str, wsol_metadata.SplitTexts]:
    folder = options.metadata
    if folder is None:
        folder = options.data_dir / f"{dataset.name}.metadata"
        wsol_metadata.fetch(dataset, folder, options.metadata_url)
    skip = options.on_error == "skip"
    return wsol_metadata.read_splits(dataset, folder, partial=options.partial, skip=skip, work=work)


def _located(
    dataset: WsolDataset,
    options: argparse.Namespace,
    source: SourceFolder,
    metadata: Mapping[str, Metadata],
    work: pathlib.Path,
) -> dict[str, CheckedSplit]:
    """The splits whose images are there; with `--partial` others are left out."""
    found = {}
    # The small ones first: it would be a pity to miss them after the checksum of 147 GB.
    for split in sorted(metadata, key=lambda name: len(metadata[name].image_ids)):
        files = source.files_of(dataset, split, metadata[split])
        if any(name in files for name in names_of(metadata[split])):
            found[split] = CheckedSplit(files, metadata[split], work / f"{split}.checked")
        elif options.partial:
            print(f"warning: no image of {split} is in {options.source}; it is left out", file=sys.stderr)
        else:
            raise nothing_found(options.source, dataset, split)
    if not found:
        raise nothing_found(options.source, dataset, "test")
    return {split: found[split] for split in SPLITS if split in found}


def _checked(
    splits: Mapping[str, CheckedSplit], options: argparse.Namespace, work: pathlib.Path
) -> dict[str, list[str]]:
    """Check all images; returns what is wrong with those of each split that are left out."""
    problems = {name: split.check(options.workers, f"checking {name}") for name, split in splits.items()}
    lines = {name: [text for _, text in sorted(found.items())] for name, found in problems.items()}
    for name, split in splits.items():
        if split.suspect:
            text = f"{len(split.suspect)} image(s) of {name} are kept though libjpeg warns of them"
            print(f"warning: {text}, e.g. {split.suspect[min(split.suspect)]}", file=sys.stderr)
    every = [line for found in lines.values() for line in found]
    path = work / PROBLEMS
    path.write_text("".join(f"{line}\n" for line in every))
    if every and options.on_error == "fail":
        first = "; ".join(every[:_NAMED])
        others = f"; and {len(every) - _NAMED} more, see {path}" if len(every) > _NAMED else ""
        raise InputError(
            f"{len(every)} image(s) cannot be used: {first}{others}. Mend them and start again (what is done is kept), "
            "or leave them out with --on_error=skip"
        )
    empty = [name for name, split in splits.items() if not split.good.any()]
    if empty:
        raise InputError(f"no image of {', '.join(empty)} can be used, e.g. {lines[empty[0]][0]}")
    return lines


def _facts(
    dataset: WsolDataset, splits: Mapping[str, CheckedSplit], left_out: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What readers are to know of each split, and the numbers of the summary."""
    facts, class_names = {}, None
    for name, split in splits.items():
        metadata, good = split.metadata, np.flatnonzero(split.good).tolist()
        image_ids, labels = [metadata.image_ids[i] for i in good], metadata.labels[good]
        # The folders of the training images name the classes; those of ILSVRC's other splits do not.
        class_names = class_names or folder_names(image_ids, labels, dataset.num_classes)
        regions, count = "", 0
        if metadata.masks is not None:
            regions, count = "masks", sum(len(metadata.masks[i].instances) for i in good)
        elif metadata.boxes is not None:
            regions, count = "boxes", sum(len(metadata.boxes[i]) for i in good)
        localized = bool(metadata.localized()[good].all())
        named = fingerprint(image_ids, labels.tolist())
        identity = Identity(named, class_names, localized, tuple(left_out[name]))
        facts[name] = {
            "identity": dataclasses.asdict(identity),
            "images": len(good),
            "classes": len(np.unique(labels)),
            "labels": labels.tolist(),
            "regions_are": regions,
            "regions": count,
            "bytes": int(split.byte_counts[good].sum()),
        }
    return facts


def summary(facts: Mapping[str, Any]) -> str:
    """The numbers of each split for people."""
    rows = [("split", "images", "classes", "boxes or masks", "MB", "left out")]
    for name, split in facts["splits"].items():
        regions = f"{split['regions']:,} {split['regions_are']}" if split["regions_are"] else "none"
        numbers = f"{split['images']:,}", str(split["classes"]), regions, f"{split['bytes'] / 1e6:,.1f}"
        rows.append((name, *numbers, str(len(split["identity"]["left_out"]))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(lines) + ("\n(a part of the data set: --partial)" if facts["partial"] else "")


def _finish(options: argparse.Namespace, folder: pathlib.Path) -> None:
    """Tell what was prepared, by what can be read of it."""
    import tensorflow_datasets as tfds

    dataset = dataset_called(options.dataset)
    facts = tfds.builder_from_directory(folder).info.metadata
    print(summary(facts))
    left_out = [line for split in facts["splits"].values() for line in split["identity"]["left_out"]]
    if left_out and not (folder / LEFT_OUT).exists():
        (folder / LEFT_OUT).write_text("".join(f"{line}\n" for line in left_out))
    if left_out:
        print(f"left out: {folder / LEFT_OUT}")
    if not (folder / SAMPLES).exists():
        sample_page.write(folder / SAMPLES, dataset, options.data_dir, list(facts["splits"]))
    print(f"samples:  {folder / SAMPLES}")
    print(
        f"to train: --config.data.source=tfds --config.data.root={options.data_dir} --config.data.tfds={dataset.name}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fcam_jax.cli.prepare", description=main.__doc__, allow_abbrev=False
    )
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--source", type=_path, required=True, help="folder of the archives or of extracted images")
    parser.add_argument("--data_dir", type=_path, required=True, help="folder of all prepared data sets")
    parser.add_argument("--metadata", type=_path, help="folder of train/, val/, test/ with their text files")
    parser.add_argument("--metadata_url", default=wsol_metadata.PUBLISHED_AT, help="where they are downloaded else")
    parser.add_argument("--workers", type=_positive, default=os.cpu_count() or 1, help="threads that decode images")
    parser.add_argument("--partial", action="store_true", help="numbers of images need not be the published ones")
    parser.add_argument(
        "--on_error", choices=("fail", "skip"), default="fail", help="what to do about images that cannot be used"
    )
    return parser


def _path(text: str) -> pathlib.Path:
    """As TFDS takes it; a shell leaves the ~ of --data_dir=~/data alone."""
    return pathlib.Path(text).expanduser()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare a data set of the protocol for training."""
    options = _parser().parse_args(arguments)
    try:
        _finish(options, prepare(options))
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {_reason(error, options.data_dir)}; what is done is kept")
    except KeyboardInterrupt:
        sys.exit("interrupted; start again to go on")


def _reason(error: OSError, data_dir: pathlib.Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"--data_dir={data_dir}: its disk is full; make room and start again"
    return f"{error.filename or data_dir}: {error.strerror or error}"


if __name__ == "__main__":
    main()
