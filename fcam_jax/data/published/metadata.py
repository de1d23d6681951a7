"""The published text files about the three data sets: fetched once, counted, compared with what is published."""

import http.client
import pathlib
import urllib.error
import urllib.request

import numpy as np

from fcam_jax.data.layouts.metadata import Metadata, report_unlocalized
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.wsol import read_split
from fcam_jax.data.published.datasets import WsolDataset
from fcam_jax.data.source import SPLITS
from fcam_jax.errors import InputError
from fcam_jax.runtime.progress import progress_bar

PUBLISHED_AT = "https://raw.githubusercontent.com/clovaai/wsolevaluation/master/metadata"
SIZES = "image_sizes.txt"
FILES = ("image_ids.txt", "class_labels.txt", SIZES, "localization.txt")
_TIMEOUT = 60  # seconds without an answer


def fetch(dataset: WsolDataset, folder: pathlib.Path, base: str = PUBLISHED_AT) -> None:
    """Download the text files of all splits that are not in a folder yet.

    OpenImages has no sizes, and training splits need neither sizes nor boxes: files that do not exist for this reason
    are empty here. `base` is the address of the collection.

    Raises:
      InputError: an address does not answer, or has no such file.
      OSError: the folder cannot be written.
    """
    wanted = [f"{split}/{name}" for split in SPLITS for name in FILES if not (folder / split / name).exists()]
    with progress_bar(f"metadata of {dataset.folder}", len(wanted), "file") as bar:
        for name in wanted:
            split, _, file = name.partition("/")
            optional = (file == "localization.txt" and split == "train") or (file == SIZES and _unsized(dataset, split))
            _fetch(f"{base}/{dataset.folder}/{name}", folder / name, folder, optional)
            bar.update()


def _fetch(url: str, path: pathlib.Path, folder: pathlib.Path, optional: bool) -> None:
    """Download one file, or make an empty one where there is none and that is as it should be."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            data = answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        if not (optional and error.code == 404):
            raise _no_answer(url, error, folder) from error
        data = b""
    except (OSError, http.client.HTTPException) as error:
        raise _no_answer(url, error, folder) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def _no_answer(url: str, reason: Exception, folder: pathlib.Path) -> InputError:
    return InputError(
        f"{url}: cannot be downloaded ({reason}); try again, or get {', '.join(FILES)} of every split another way and "
        f"put them in {folder}/{{{','.join(SPLITS)}}}, or in a folder named by --metadata=DIR"
    )


def read_splits(
    dataset: WsolDataset, folder: pathlib.Path, *, partial: bool, skip: bool
) -> tuple[dict[str, Metadata], dict[str, list[str]]]:
    """The metadata of all splits, by their names: of the images that can be used as far as the text files tell.

    Args:
      dataset: which.
      folder: holds a folder for each split.
      partial: numbers need not be the published ones, and splits may be missing.
      skip: leave out images of which a line is wrong.

    Returns:
      The metadata, and what is wrong with each image that is left out, a line each.

    Raises:
      InputError: the files cannot be used, or the numbers of images or boxes are not the published ones.
    """
    if not folder.is_dir():
        raise InputError(f"--metadata={folder}: no such folder; it must hold {', '.join(SPLITS)}")
    splits = [split for split in SPLITS if not partial or (folder / split).is_dir()]
    if not splits:
        raise InputError(f"--metadata={folder}: holds none of the folders {', '.join(SPLITS)}")
    known, lines, wrong = {}, {}, []
    for split in splits:
        problems = Problems()
        metadata = read_split(folder / split, dataset.num_classes, problems, _unsized(dataset, split))
        if split != "train":
            report_unlocalized(metadata, folder / split / "localization.txt", problems)
        if not skip:
            problems.settle()
        left_out = problems.settle("skip", folder)
        keep = np.array([image_id not in left_out for image_id in metadata.image_ids], bool)
        known[split], lines[split] = metadata.select(keep), list(left_out.values())
        wrong += _other_numbers(dataset, split, metadata, bool(left_out))
    if wrong and not partial:
        raise InputError(f"{folder}: {'; '.join(wrong)}; give --partial if a part is what you want")
    return known, lines


def _unsized(dataset: WsolDataset, split: str) -> bool:
    """Whether there need be no sizes of the images."""
    return split == "train" or not dataset.sized


def _other_numbers(dataset: WsolDataset, split: str, metadata: Metadata, incomplete: bool) -> list[str]:
    """Where numbers of a split are not those that are published; wrong boxes are not among those that are counted."""
    counts = [("images", len(metadata.image_ids), dataset.images[split])]
    if split in dataset.boxes and not incomplete:
        counts.append(("boxes", sum(map(len, metadata.boxes or ())), dataset.boxes[split]))
    return [f"{split} has {count} {what}, published are {wanted}" for what, count, wanted in counts if count != wanted]
