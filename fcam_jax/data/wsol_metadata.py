"""The published text files about the three data sets: fetched once, counted, compared with what is published."""

import http.client
import pathlib
import shutil
import urllib.error
import urllib.request

from fcam_jax.data.metadata import Metadata, read_metadata
from fcam_jax.data.wsol_datasets import SPLITS, WsolDataset
from fcam_jax.errors import InputError
from fcam_jax.progress import progress_bar

PUBLISHED_AT = "https://raw.githubusercontent.com/clovaai/wsolevaluation/master/metadata"
SIZES = "image_sizes.txt"
FILES = ("image_ids.txt", "class_labels.txt", SIZES, "localization.txt")
_TIMEOUT = 60  # seconds without an answer


def fetch(dataset: WsolDataset, folder: pathlib.Path, base: str = PUBLISHED_AT) -> None:
    """Download the text files of all splits that are not in a folder yet.

    A file is put in place as a whole. OpenImages has no sizes, and no training split but CUB's has boxes: files that
    do not exist for this reason are empty here.

    Args:
      dataset: which.
      folder: gets a folder for each split.
      base: address of the collection.

    Raises:
      InputError: an address does not answer, or has no such file.
      OSError: the folder cannot be written.
    """
    wanted = [f"{split}/{name}" for split in SPLITS for name in FILES if not (folder / split / name).exists()]
    with progress_bar(f"metadata of {dataset.folder}", len(wanted), "file") as bar:
        for name in wanted:
            optional = name == "train/localization.txt" or (name.endswith(SIZES) and not dataset.sized)
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


def read_splits(dataset: WsolDataset, folder: pathlib.Path, partial: bool, work: pathlib.Path) -> dict[str, Metadata]:
    """The metadata of all splits, by their names.

    Args:
      dataset: which.
      folder: holds a folder for each split.
      partial: numbers need not be the published ones, and splits may be missing.
      work: folder for a copy, where files must be added.

    Raises:
      InputError: the files cannot be used, or the numbers of images or boxes are not the published ones.
    """
    if not folder.is_dir():
        raise InputError(f"--metadata={folder}: no such folder; it must hold {', '.join(SPLITS)}")
    splits = [split for split in SPLITS if not partial or (folder / split).is_dir()]
    if not splits:
        raise InputError(f"--metadata={folder}: holds none of the folders {', '.join(SPLITS)}")
    metadata = {}
    for split in splits:
        complete = folder / split if dataset.sized else _with_sizes(folder / split, work / "metadata" / split)
        metadata[split] = read_metadata(complete, dataset.num_classes, needs_localization=split != "train")
    if not partial:
        _compare(dataset, folder, metadata)
    return metadata


def _with_sizes(folder: pathlib.Path, copy: pathlib.Path) -> pathlib.Path:
    """The folder of a split, or a copy with the empty file that says that sizes are not known."""
    if not folder.is_dir() or (folder / SIZES).exists():
        return folder
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    (copy / SIZES).touch()
    return copy


def _compare(dataset: WsolDataset, folder: pathlib.Path, metadata: dict[str, Metadata]) -> None:
    counts = {(split, "images"): len(found.image_ids) for split, found in metadata.items()}
    published = {(split, "images"): count for split, count in dataset.images.items()}
    for split, count in dataset.boxes.items():
        counts[split, "boxes"] = sum(map(len, metadata[split].boxes or ()))
        published[split, "boxes"] = count
    wrong = [
        f"{split} has {counts[split, what]} {what}, published are {count}"
        for (split, what), count in published.items()
        if counts[split, what] != count
    ]
    if wrong:
        raise InputError(f"{folder}: {'; '.join(wrong)}; give --partial if a part is what you want")
