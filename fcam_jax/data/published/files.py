"""Where the images and masks of a data set are among what a user has: folders, archives, or some of both."""

import hashlib
import pathlib
from collections.abc import Sequence

from fcam_jax.data.layouts.metadata import Metadata
from fcam_jax.data.published.archives import Folder, Store, open_archive
from fcam_jax.data.published.datasets import Archive, WsolDataset
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import ARCHIVE, open_regular, write_record
from fcam_jax.runtime.progress import progress_bar
from fcam_jax.runtime.records import read_record

_BLOCK = 2**24  # bytes of an archive that are read at once for its checksum


class WsolFiles:
    """The files of one split, by their names in the metadata."""

    def __init__(self, dataset: WsolDataset, split: str, stores: Sequence[Store]):
        self._dataset, self._split, self._stores = dataset, split, stores

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def read(self, name: str) -> tuple[bytes, str]:
        """The bytes of a file, and what messages call it. Raises InputError: it is not there, or cannot be read."""
        found = self._find(name)
        if found is None:
            raise InputError(f"{name}: is not in --source")
        return found[0].read(found[1])

    def _find(self, name: str) -> tuple[Store, str] | None:
        paths = list(self._dataset.paths(self._split, name))
        return next(((store, path) for store in self._stores for path in paths if path in store), None)


class SourceFolder:
    """The folder that a user names: of extracted images, of the archives, or of both. Archives are opened if needed.

    In the folder `work` compressed tars are unpacked, and checksums are noted down.
    """

    def __init__(self, path: pathlib.Path, work: pathlib.Path):
        if not path.is_dir():
            raise InputError(f"--source={path}: no such folder; name the one that holds the images or archives")
        self._path, self._work, self._folder = path, work, Folder(path)
        self._opened: dict[str, Store] = {}

    def files_of(self, dataset: WsolDataset, split: str, metadata: Metadata) -> WsolFiles:
        """The files of a split. Raises InputError: an archive is not the published one, or is damaged."""
        extracted = WsolFiles(dataset, split, [self._folder])
        if all(name in extracted for _, name in metadata.files()):
            return extracted
        archives = [a for a in dataset.archives if split in a.splits and (self._path / a.name).is_file()]
        return WsolFiles(dataset, split, [self._folder, *map(self._open, archives)])

    def _open(self, archive: Archive) -> Store:
        if archive.name not in self._opened:
            path = self._path / archive.name
            self._check(path, archive)
            self._opened[archive.name] = open_archive(path, self._work / "unpacked")
        return self._opened[archive.name]

    def _check(self, path: pathlib.Path, archive: Archive) -> None:
        """Compare size and checksum with the published ones, once for each state of the file."""
        if archive.sha256 is None:
            return
        cure = "download it again, or extract the images of yours into --source"
        status = path.stat()
        if status.st_size != archive.size:
            raise InputError(f"{path}: has {status.st_size} bytes, the published archive {archive.size}; {cure}")
        notes = self._work / "checksums.json"
        known = read_record(notes, "delete it") if notes.exists() else {}
        state = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
        if state not in known:
            known[state] = _sha256(path)
            write_record(notes, known)
        if known[state] != archive.sha256:
            has = f"its SHA-256 is {known[state]}, that of the published archive {archive.sha256}"
            raise InputError(f"{path}: {has}; {cure}")


def nothing_found(source: pathlib.Path, dataset: WsolDataset, split: str) -> InputError:
    """The error for a folder that holds no image of a split."""
    archives = [archive.name for archive in dataset.archives if split in archive.splits]
    cure = f"it must hold {' or '.join(archives)}, or {dataset.folder}/ with the extracted images"
    text = f"holds no image of {dataset.folder}'s {split} split; {cure} (--partial does without a split)"
    return InputError(f"--source={source}: {text}")


def _sha256(path: pathlib.Path) -> str:
    total = hashlib.sha256()
    with open_regular(path, ARCHIVE) as file, progress_bar(f"checksum of {path.name}", path.stat().st_size, "B") as bar:
        while block := file.read(_BLOCK):
            total.update(block)
            bar.update(len(block))
    return total.hexdigest()
