"""The published text files about the three data sets: fetched once, counted, compared with what is published."""

import http.client
import pathlib
import urllib.error
import urllib.request

from fcam_jax.data.layouts.metadata import Metadata, report_unlocalized
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.wsol import LOCALIZATION, SIZES, read_split
from fcam_jax.data.published.datasets import WsolDataset
from fcam_jax.data.source import SPLITS
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import replace_file
from fcam_jax.runtime.progress import progress_bar

PUBLISHED_AT = "https://raw.githubusercontent.com/clovaai/wsolevaluation/master/metadata"
FILES = ("image_ids.txt", "class_labels.txt", SIZES, LOCALIZATION)
_TIMEOUT = 60  # seconds without an answer


def fetch(dataset: WsolDataset, folder: pathlib.Path, base: str = PUBLISHED_AT) -> None:
    """Download the text files of all splits that are not in a folder yet, from the address `base` of the collection.

    OpenImages has no sizes, and training splits need neither sizes nor boxes: files that do not exist for this reason
    are empty here.

    Raises:
      InputError: an address does not answer, or has no such file.
      OSError: the folder cannot be written.
    """
    wanted = [f"{split}/{name}" for split in SPLITS for name in FILES if not (folder / split / name).exists()]
    with progress_bar(f"metadata of {dataset.folder}", len(wanted), "file") as bar:
        for name in wanted:
            split, _, file = name.partition("/")
            optional = (file == LOCALIZATION and split == "train") or (file == SIZES and _unsized(dataset, split))
            _fetch(f"{base}/{dataset.folder}/{name}", folder / name, folder, optional)
            bar.update()


def _fetch(url: str, path: pathlib.Path, folder: pathlib.Path, optional: bool) -> None:
    """Download one file, or make an empty one where there is none and that is as it should be."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        if not (optional and getattr(error, "code", 0) == 404):
            cure = f"get {', '.join(FILES)} of every split another way and put them in {folder}/{{{','.join(SPLITS)}}}"
            text = f"cannot be downloaded ({error}); try again, or {cure}, or in a folder named by --metadata=DIR"
            raise InputError(f"{url}: {text}") from error
        data = b""
    replace_file(path, data)


def read_splits(
    dataset: WsolDataset, folder: pathlib.Path, *, partial: bool, skip: bool
) -> tuple[dict[str, Metadata], dict[str, list[str]]]:
    """The metadata of all splits, of the images that can be used as far as the text files in a folder for each tell.

    Numbers need not be the published ones of a `partial` data set, and its splits may be missing. Images of which a
    line is wrong may be left out (`skip`); what is wrong with each comes with the metadata.

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
            report_unlocalized(metadata, folder / split / LOCALIZATION, problems)
        if not skip:
            problems.settle()
        left_out = problems.settle("skip", folder)
        known[split], lines[split] = metadata.select(metadata.without(left_out)), list(left_out.values())
        counts = [("images", len(metadata.image_ids), dataset.images[split])]
        if split in dataset.boxes and not left_out:  # wrong boxes are not among those that are counted
            counts.append(("boxes", sum(map(len, metadata.boxes or ())), dataset.boxes[split]))
        wrong += [f"{split} has {n} {what}, published are {wanted}" for what, n, wanted in counts if n != wanted]
    if wrong and not partial:
        raise InputError(f"{folder}: {'; '.join(wrong)}; give --partial if a part is what you want")
    return known, lines


def _unsized(dataset: WsolDataset, split: str) -> bool:
    """Whether there need be no sizes of the images."""
    return split == "train" or not dataset.sized
