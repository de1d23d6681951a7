"""The bytes of a file by its name, out of a folder or an archive; archives of archives are read in place.

A member that would climb out of where an archive is unpacked is refused, and so are links, so a name never means
anything but a file of its own store.
"""

import os
import pathlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from fcam_jax.errors import InputError
from fcam_jax.runtime.progress import progress_bar

_SUFFIXES = (".jpg", ".jpeg", ".png")  # of what is unpacked, in any case of letters


@runtime_checkable
class Store(Protocol):
    """Files by their names, for several threads at once."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a file of that name."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of a file that is there.

        Raises:
          InputError: they cannot be read.
        """
        ...

    def place(self, name: str) -> str:
        """What messages call it."""
        ...


class Folder:
    """The files below a folder. Folders are listed once each: asking for every file takes minutes on a network disk."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._listed: dict[str, frozenset[str]] = {}

    def __contains__(self, name: str) -> bool:
        folder, _, file = name.rpartition("/")
        if folder not in self._listed:
            path = self._path / folder
            self._listed[folder] = frozenset(_entries(path))
        return file in self._listed[folder]

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise InputError(f"{self._path / name}: cannot be read: {error.strerror or error}") from error

    def place(self, name: str) -> str:
        """Its path."""
        return str(self._path / name)


def _entries(path: pathlib.Path) -> Iterator[str]:
    if path.is_dir():
        with os.scandir(path) as entries:
            yield from (entry.name for entry in entries)


class Tar:
    """The files of an uncompressed tar, and of the tars inside it, by the places of their bytes.

    A file ``x.JPEG`` of a member ``n01440764.tar`` is called ``n01440764/x.JPEG``.
    """

    def __init__(self, path: pathlib.Path):
        """List the files; of 147 GB only the headers are read.

        Raises:
          InputError: it is damaged, or holds what is refused.
        """
        self._path = path
        self._places: dict[str, tuple[int, int]] = {}
        try:
            with path.open("rb") as file, progress_bar(f"listing {path.name}", path.stat().st_size, "B") as bar:
                self._list(file, 0, "", bar)
            self._file = os.open(path, os.O_RDONLY)
        except (tarfile.TarError, OSError) as error:
            raise _damaged(path, error) from error

    def __del__(self):
        if hasattr(self, "_file"):
            os.close(self._file)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        start, size = self._places[name]
        data = os.pread(self._file, size, start)
        if len(data) != size:
            raise InputError(f"{self.place(name)}: ends early; download the archive again")
        return data

    def place(self, name: str) -> str:
        """Archive and member."""
        return f"{self._path}:{name}"

    def _list(self, file, start: int, prefix: str, bar) -> None:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                bar.update(max(start + member.offset_data - bar.n, 0))
                if member.isdir():
                    continue
                _check_member(self._path, member.name, member.isreg() and not member.issparse())
                name = prefix + member.name.removeprefix("./")
                if name.endswith(".tar") and not prefix:
                    inner = tar.extractfile(member)
                    assert inner is not None  # it is a regular file
                    self._list(inner, member.offset_data, name.removesuffix(".tar") + "/", bar)
                else:
                    self._places[name] = (start + member.offset_data, member.size)


class Zip:
    """The files of a zip."""

    def __init__(self, path: pathlib.Path):
        """List the files.

        Raises:
          InputError: it is damaged, or holds what is refused.
        """
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise _damaged(path, error) from error
        self._members = {}
        for member in self._zip.infolist():
            if not member.is_dir():
                _check_member(path, member.filename, not stat.S_ISLNK(member.external_attr >> 16))
                self._members[member.filename.removeprefix("./")] = member

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """The bytes of a file; the zip's own checksum is checked."""
        try:
            return self._zip.read(self._members[name])
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error) as error:
            raise InputError(f"{self.place(name)}: cannot be unpacked ({error}); download the archive again") from error

    def place(self, name: str) -> str:
        """Archive and member."""
        return f"{self._path}:{name}"


def open_archive(path: pathlib.Path, work: pathlib.Path) -> Store:
    """The files of an archive.

    Args:
      path: of a .zip, .tar, .tgz or .tar.gz.
      work: where a compressed tar is unpacked, once.

    Raises:
      InputError: it is damaged, or holds what is refused.
    """
    if path.suffix == ".zip":
        return Zip(path)
    if path.suffix == ".tar":
        return Tar(path)
    return Folder(unpacked(path, work))


def unpacked(path: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """The folder of the images of a compressed tar, which are unpacked where that has not been done.

    Whole files of an earlier call that was interrupted are kept.

    Raises:
      InputError: it is damaged, or holds what is refused.
      OSError: the folder cannot be written.
    """
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
