"""The bytes of a file by its name, out of a folder or an archive; archives of archives are read in place.

A member that would climb out of where an archive is unpacked is refused, and so are links, so a name never means
anything but a file of its own store.
"""

import os
import pathlib
import stat
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fcam_jax.data.images import read_bytes
from fcam_jax.data.layouts.paths import listing
from fcam_jax.errors import InputError
from fcam_jax.runtime.progress import progress_bar

_SUFFIXES = (".jpg", ".jpeg", ".png")  # of what is unpacked, in any case of letters


class Store:
    """Files by their names, for several threads at once."""

    def __init__(self, path: pathlib.Path, members: Mapping[str, Any], load: Callable[[Any, str], bytes]):
        """Take what is in an archive.

        Args:
          path: of the archive.
          members: by name, what `load` finds them by.
          load: gives the bytes of a member; its second argument is what messages call it.
        """
        self.path, self._members, self._load = path, members, load

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """The bytes of a file that is there.

        Raises:
          InputError: they cannot be read.
        """
        return self._load(self._members[name], self.place(name))

    def place(self, name: str) -> str:
        """What messages call it: archive and member."""
        return f"{self.path}:{name}"


class Folder(Store):
    """The files below a folder. Folders are listed once each: asking for every file takes minutes on a network disk."""

    def __init__(self, path: pathlib.Path):
        super().__init__(path, {}, lambda member, place: b"")
        self._listed: dict[str, set[str]] = {}

    def __contains__(self, name: str) -> bool:
        folder, _, file = name.rpartition("/")
        if folder not in self._listed:
            self._listed[folder] = listing(self.path / folder)
        return file in self._listed[folder]

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return read_bytes(self.path / name)

    def place(self, name: str) -> str:
        """Its path."""
        return str(self.path / name)


def _tar(path: pathlib.Path) -> Store:
    """The files of an uncompressed tar, and of the tars inside it, by the places of their bytes.

    A file ``x.JPEG`` of a member ``n01440764.tar`` is called ``n01440764/x.JPEG``. Of 147 GB only the headers are read.
    """
    try:
        with path.open("rb") as file, progress_bar(f"listing {path.name}", path.stat().st_size, "B") as bar:
            places = dict(_places(path, file, 0, "", bar))
        opened = os.open(path, os.O_RDONLY)
    except (tarfile.TarError, OSError) as error:
        raise _damaged(path, error) from error

    def load(where: tuple[int, int], name: str) -> bytes:
        start, size = where
        data = os.pread(opened, size, start)
        if len(data) != size:
            raise InputError(f"{name}: ends early; download the archive again")
        return data

    store = Store(path, places, load)
    weakref.finalize(store, os.close, opened)
    return store


def _places(path: pathlib.Path, file: Any, start: int, prefix: str, bar: Any) -> Iterator[tuple[str, Any]]:
    """Name, and offset and size, of each file of a tar that starts at an offset of the archive."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            bar.update(max(start + member.offset_data - bar.n, 0))
            if member.isdir():
                continue
            _check_member(path, member.name, member.isreg() and not member.issparse())
            name = prefix + member.name.removeprefix("./")
            inner = tar.extractfile(member) if name.endswith(".tar") and not prefix else None
            if inner is not None:
                yield from _places(path, inner, member.offset_data, name.removesuffix(".tar") + "/", bar)
            else:
                yield name, (start + member.offset_data, member.size)


def _zip(path: pathlib.Path) -> Store:
    """The files of a zip, whose own checksums are checked."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, error) from error
    members = {}
    for member in archive.infolist():
        if not member.is_dir():
            _check_member(path, member.filename, not stat.S_ISLNK(member.external_attr >> 16))
            members[member.filename.removeprefix("./")] = member

    def load(member: zipfile.ZipInfo, name: str) -> bytes:
        try:
            return archive.read(member)
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error) as error:
            raise InputError(f"{name}: cannot be unpacked ({error}); download the archive again") from error

    return Store(path, members, load)


def open_archive(path: pathlib.Path, work: pathlib.Path) -> Store:
    """The files of an archive.

    Args:
      path: of a .zip, .tar, .tgz or .tar.gz.
      work: where a compressed tar is unpacked, once.

    Raises:
      InputError: it is damaged, or holds what is refused.
      OSError: the folder cannot be written.
    """
    if path.suffix == ".zip":
        return _zip(path)
    if path.suffix == ".tar":
        return _tar(path)
    return Folder(_unpacked(path, work))


def _unpacked(path: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """The folder of the images of a compressed tar, unpacked but for what an interrupted call has unpacked already."""
    folder, done = work / path.name, work / f"{path.name}.done"
    if done.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (
            path.open("rb") as file,
            tarfile.open(fileobj=file, mode="r:gz") as tar,
            progress_bar(f"unpacking {path.name}", path.stat().st_size, "B") as bar,
        ):
            for member in tar:
                bar.update(file.tell() - bar.n)
                if not member.isdir():
                    _check_member(path, member.name, member.isreg())
                    _unpack(tar, member, folder)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # it is the disk, not what the archive holds
        raise _damaged(path, error) from error
    done.touch()
    return folder


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: pathlib.Path) -> None:
    target = folder / member.name
    if not member.name.lower().endswith(_SUFFIXES):
        return
    if not (target.is_file() and target.stat().st_size == member.size):
        tar.extract(member, folder, filter="data")


def _check_member(path: pathlib.Path, name: str, is_file: bool) -> None:
    if not is_file:
        raise InputError(f"{path}: its member {name!r} is a link or no file; such an archive is not read")
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        raise InputError(f"{path}: its member {name!r} leads out of the archive; such an archive is not read")


def _damaged(path: pathlib.Path, error: Exception) -> InputError:
    return InputError(f"{path}: cannot be read as an archive ({error or type(error).__name__}); download it again")
