"""A data set of the protocol made ready for the source "tfds", out of whatever its user has: folders or archives.

What is half done is kept in a folder of its own, so that a call after an interrupted one goes on.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fcam_jax.component import at_least, known
from fcam_jax.data.layouts.metadata import Metadata, folder_names
from fcam_jax.data.layouts.problems import ON_ERROR
from fcam_jax.data.published import metadata as texts
from fcam_jax.data.published import sample_page
from fcam_jax.data.published.check import CheckedSplit
from fcam_jax.data.published.datasets import DATASETS, VERSION, WsolDataset
from fcam_jax.data.published.files import SourceFolder, nothing_found
from fcam_jax.data.source import SPLITS, fingerprint
from fcam_jax.errors import InputError, extra
from fcam_jax.runtime.files import replace_file
from fcam_jax.runtime.lock import held
from fcam_jax.runtime.text import aligned

_NAMED = 5  # images that cannot be used and are named in a message
PROBLEMS, LEFT_OUT, SAMPLES = "problems.txt", "left_out.txt", "samples.html"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is prepared, of what, and where.

    Attributes:
      dataset: one of cub, openimages, ilsvrc.
      source: folder of the archives or of extracted images.
      data_dir: folder of all prepared data sets.
      metadata: folder of train/, val/, test/ with their text files.
      metadata_url: where they are downloaded else.
      workers: threads that decode images.
      partial: numbers of images need not be the published ones.
      on_error: what to do about images that cannot be used: "fail", or "skip" them.
    """

    dataset: str
    source: pathlib.Path
    data_dir: pathlib.Path
    metadata: pathlib.Path | None = None
    metadata_url: str = texts.PUBLISHED_AT
    workers: int = os.cpu_count() or 1
    partial: bool = False
    on_error: str = "fail"

    def __post_init__(self) -> None:
        known(self, dataset=DATASETS, on_error=ON_ERROR)
        at_least(self, workers=1)

    @property
    def published(self) -> WsolDataset:
        """Of the data set."""
        return DATASETS[self.dataset]

    @property
    def folder(self) -> pathlib.Path:
        """What is prepared."""
        return self.data_dir / self.published.name / VERSION

    def is_done(self) -> bool:
        """Whether the folder is there."""
        return (self.folder / "dataset_info.json").exists()

    def prepare(self) -> None:
        """Prepare the data set, unless it is prepared. Raises InputError: for whatever the user can mend. OSError: the
        disk is full, or cannot be written.
        """
        if not self.is_done():
            with self._work_folder() as work:
                self._write(work)
        shutil.rmtree(self.data_dir / f"{self.published.name}.work", ignore_errors=True)

    def finish(self) -> dict[str, Any]:
        """What is known of the prepared data set: "partial", and the facts of each of the "splits".

        Pages of samples and of images left out are written beside it.
        """
        with extra("tfds", "fcam prepare"):
            import tensorflow_datasets as tfds

        facts = dict(tfds.builder_from_directory(self.folder).info.metadata)
        if (left_out := left_out_of(facts)) and not (self.folder / LEFT_OUT).exists():
            replace_file(self.folder / LEFT_OUT, "".join(f"{line}\n" for line in left_out))
        if not (self.folder / SAMPLES).exists():
            sample_page.write(self.folder / SAMPLES, self.published, self.data_dir, list(facts["splits"]))
        return facts

    def _write(self, work: pathlib.Path) -> None:
        with extra("tfds", "fcam prepare"):
            from fcam_jax.data.published.builder import WsolBuilder  # takes a second

        source = SourceFolder(self.source, work)
        folder = self.metadata
        if folder is None:
            folder = self.data_dir / f"{self.published.name}.metadata"
            texts.fetch(self.published, folder, self.metadata_url)
        skip = self.on_error == "skip"
        described, left_out = texts.read_splits(self.published, folder, partial=self.partial, skip=skip)
        checked = self._located(source, described, work)
        for name, lines in self._checked(checked, work).items():
            left_out[name] += lines
        facts = {"partial": self.partial, "splits": self._facts(checked, left_out)}
        options: Any = {"facts": facts, "data_dir": self.data_dir, "kept": work, "workers": self.workers}
        WsolBuilder(self.published, checked, **options).prepare()

    @contextlib.contextmanager
    def _work_folder(self) -> Iterator[pathlib.Path]:
        """The folder of what is half done; no other call may use it at the same time."""
        name = self.published.name
        work = self.data_dir / f"{name}.work"
        with contextlib.ExitStack() as stack:
            try:
                work.mkdir(parents=True, exist_ok=True)
                complaint = f"--data_dir={self.data_dir}: {name} is being prepared by another call"
                stack.enter_context(held(work / "lock", complaint))
            except OSError as error:
                raise InputError(f"--data_dir={self.data_dir} cannot be written ({error.strerror})") from error
            for stale in self.folder.parent.glob(f"incomplete.*_{VERSION}"):
                shutil.rmtree(stale)  # what TFDS leaves behind when it is killed
            yield work

    def _located(
        self, source: SourceFolder, described: Mapping[str, Metadata], work: pathlib.Path
    ) -> dict[str, CheckedSplit]:
        """The splits whose images are there; of a part of a data set others are left out."""
        found = {}
        # The small ones first: it would be a pity to miss them after the checksum of 147 GB.
        for split, metadata in sorted(described.items(), key=lambda one: len(one[1].image_ids)):
            files = source.files_of(self.published, split, metadata)
            if any(name in files for _, name in metadata.files()):
                found[split] = CheckedSplit(files, metadata, work / f"{split}.checked")
            elif self.partial:
                print(f"warning: no image of {split} is in {self.source}; it is left out", file=sys.stderr)
            else:
                raise nothing_found(self.source, self.published, split)
        if not found:
            raise nothing_found(self.source, self.published, "test")
        return {split: found[split] for split in SPLITS if split in found}

    def _checked(self, splits: Mapping[str, CheckedSplit], work: pathlib.Path) -> dict[str, list[str]]:
        """Check all images; returns what is wrong with those of each split that are left out."""
        problems = {name: split.check(self.workers, f"checking {name}") for name, split in splits.items()}
        lines = {name: [text for _, text in sorted(found.items())] for name, found in problems.items()}
        for name, split in splits.items():
            if split.suspect:
                text = f"{len(split.suspect)} image(s) of {name} are kept though libjpeg warns of them"
                print(f"warning: {text}, e.g. {split.suspect[min(split.suspect)]}", file=sys.stderr)
        every, path = [line for found in lines.values() for line in found], work / PROBLEMS
        replace_file(path, "".join(f"{line}\n" for line in every))
        if every and self.on_error == "fail":
            first = "; ".join(every[:_NAMED])
            others = f"; and {len(every) - _NAMED} more, see {path}" if len(every) > _NAMED else ""
            cure = "Mend them and start again (what is done is kept), or leave them out with --on_error=skip"
            raise InputError(f"{len(every)} image(s) cannot be used: {first}{others}. {cure}")
        empty = [name for name, split in splits.items() if not split.good.any()]
        if empty:
            raise InputError(f"no image of {', '.join(empty)} can be used, e.g. {lines[empty[0]][0]}")
        return lines

    def _facts(self, splits: Mapping[str, CheckedSplit], left_out: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """What readers are to know of each split, as JSON data, and the numbers of the summary."""
        facts, class_names = {}, None
        for name, split in splits.items():
            metadata, good = split.metadata.select(split.good), np.flatnonzero(split.good)
            # The folders of the training images name the classes; those of ILSVRC's other splits do not.
            class_names = class_names or folder_names(metadata.image_ids, metadata.labels, self.published.num_classes)
            masks, boxes = metadata.masks, metadata.boxes
            regions_are = "masks" if masks is not None else "boxes" if boxes is not None else ""
            labels = metadata.labels.tolist()
            facts[name] = {
                "identity": {
                    "fingerprint": fingerprint(metadata.image_ids, labels),
                    "class_names": class_names,
                    "localized": bool(metadata.localized().all()),
                    "left_out": left_out[name],
                },
                "images": len(good),
                "classes": len(set(labels)),
                "labels": labels,
                "regions_are": regions_are,
                "regions": sum(len(some.instances) for some in masks) if masks else sum(map(len, boxes or ())),
                "bytes": int(split.byte_counts[good].sum()),
            }
        return facts


def left_out_of(facts: Mapping[str, Any]) -> list[str]:
    """What is wrong with each image that is left out, of all splits."""
    return [line for split in facts["splits"].values() for line in split["identity"]["left_out"]]


def summary(facts: Mapping[str, Any]) -> str:
    """The numbers of each split for people."""
    rows = [("split", "images", "classes", "boxes or masks", "MB", "left out")]
    for name, split in facts["splits"].items():
        regions = f"{split['regions']:,} {split['regions_are']}" if split["regions_are"] else "none"
        numbers = f"{split['images']:,}", str(split["classes"]), regions, f"{split['bytes'] / 1e6:,.1f}"
        rows.append((name, *numbers, str(len(split["identity"]["left_out"]))))
    return aligned(rows) + ("\n(a part of the data set: --partial)" if facts["partial"] else "")
