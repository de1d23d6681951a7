"""The published text files about the three data sets: fetched once, counted, compared with what is published."""

import http.client
import pathlib
import urllib.error
import urllib.request

from fcam_jax.data.metadata import Metadata, read_metadata
from fcam_jax.data.wsol_datasets import SPLITS, WsolDataset
from fcam_jax.errors import InputError
from fcam_jax.progress import progress_bar

PUBLISHED_AT = "https://raw.githubusercontent.com/clovaai/wsolevaluation/master/metadata"
FILES = ("image_ids.txt", "class_labels.txt", "image_sizes.txt", "localization.txt")
_OPTIONAL = ["train", "localization.txt"]
_TIMEOUT = 60  # seconds without an answer
_BLOCK = 2**16


def fetch(dataset: WsolDataset, folder: pathlib.Path, base: str = PUBLISHED_AT) -> None:
    """Download the text files of all splits that are not in a folder yet.

    A file is put in place as a whole. OpenImages has no `image_sizes.txt`, and no training split but CUB's has boxes:
    such files are left empty.

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
            _fetch(f"{base}/{dataset.folder}/{name}", folder / name, folder)
            bar.update()


def _fetch(url: str, path: pathlib.Path, folder: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
                while block := answer.read(_BLOCK):
                    file.write(block)
                missing = answer.length or 0
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            absent = isinstance(error, urllib.error.HTTPError) and error.code == 404
            if not absent or (path.name != "image_sizes.txt" and url.rsplit("/", 2)[1:] != _OPTIONAL):
                raise _no_answer(url, str(error), folder) from error
            missing = 0
    if missing:
        raise _no_answer(url, f"the file ended {missing} bytes early", folder)
    partial.replace(path)


def _no_answer(url: str, reason: str, folder: pathlib.Path) -> InputError:
    return InputError(
        f"{url}: cannot be downloaded ({reason}); try again, or get {', '.join(FILES)} of every split another way and "
        f"put them in {folder}/{{{','.join(SPLITS)}}}, or in a folder named by --metadata=DIR"
    )


def read_splits(dataset: WsolDataset, folder: pathlib.Path, partial: bool) -> dict[str, Metadata]:
    """The metadata of all splits, by their names.

    Args:
      dataset: which.
      folder: holds a folder for each split.
      partial: numbers need not be the published ones, and splits may be missing.

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
        metadata[split] = read_metadata(folder / split, dataset.num_classes, needs_localization=split != "train")
    if not partial:
        _compare(dataset, folder, metadata)
    return metadata


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
