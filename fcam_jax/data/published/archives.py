"""The bytes of a file by its name, out of a folder or an archive; archives of archives are read in place.

A member that would climb out of where an archive is unpacked is refused, and so are links, so a name never means
anything but a file of its own store. Images hardly shrink when they are compressed: what unpacks to many times its size
is refused before it is.
"""

import contextlib
import functools
import gzip
import io
import os
import pathlib
import shutil
import stat
import tarfile
import types
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fcam_jax.data.images import read_bytes
from fcam_jax.data.layouts.tree import listing
from fcam_jax.errors import OF_THE_DISK, InputError
from fcam_jax.runtime.files import ARCHIVE, IMAGE, open_regular
from fcam_jax.runtime.progress import progress_bar
from fcam_jax.runtime.text import first_line, fitted, shorten

_SUFFIXES = (".jpg", ".jpeg", ".png")  # of what is unpacked, in any case of letters
_RATIO = 100  # bytes that one of an archive may become, beyond the first ones
_FIRST = 16 << 20
_MEMBERS = 10**7
_HEADER = 1 << 20  # bytes that are read at once: of a header that tells a longer name, for one
_NAME, _PART, _FOLDERS = 1000, 255, 32  # bytes of a name, and of each part; parts


class Store:
    """The files of an archive by their names, for several threads at once.

    `load` gives the bytes of a member by what `members` has for its name, and by what messages call it.
    """

    def __init__(self, path: pathlib.Path, members: Mapping[str, Any], load: Callable[[Any, str], bytes]):
        self.path, self._members, self._load = path, members, load

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> tuple[bytes, str]:
        """The bytes of a file that is there, and what messages call it. Raises InputError: they cannot be read."""
        place = f"{self.path}:{name}"
        return self._load(self._members[name], place), place


class Folder(Store):
    """The files below a folder. Folders are listed once each: asking for every file takes minutes on a network disk."""

    def __init__(self, path: pathlib.Path):
        super().__init__(path, {}, lambda member, place: b"")
        self._listing = functools.cache(listing)

    def __contains__(self, name: str) -> bool:
        folder, _, file = name.rpartition("/")
        return file in self._listing(self.path / folder)

    def read(self, name: str) -> tuple[bytes, str]:
        """The bytes of a file, and its path."""
        return read_bytes(self.path / name), str(self.path / name)


def _tar(path: pathlib.Path) -> Store:
    """The files of an uncompressed tar, and of the tars inside it, by the places of their bytes.

    A file ``x.JPEG`` of a member ``n01440764.tar`` is called ``n01440764/x.JPEG``. Of 147 GB only the headers are read.
    """

    def load(where: tuple[int, int], name: str) -> bytes:
        start, size = where
        _check_size(path, name, size)
        data = os.pread(file.fileno(), size, start)
        if len(data) != size:
            raise InputError(f"{name}: ends early; download the archive again")
        return data

    with _opened(path) as file, progress_bar(f"listing {path.name}", path.stat().st_size, "B") as bar:
        store = Store(path, dict(_places(path, file, 0, "", bar)), load)
    weakref.finalize(store, file.close)
    return store


def _places(path: pathlib.Path, file: Any, start: int, prefix: str, bar: Any) -> Iterator[tuple[str, Any]]:
    """Name, and offset and size, of each file of a tar that starts at an offset of the archive."""
    with _listing(file) as tar:
        for member in _members(path, tar):
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


def _listing(file: Any) -> tarfile.TarFile:
    """A tar of whose file no more is read at once than a header needs."""

    def read(size: int) -> bytes:
        if not 0 <= size <= _HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return bytes(file.read(size))

    bounded: Any = types.SimpleNamespace(read=read, seek=file.seek, tell=file.tell, seekable=file.seekable)
    return tarfile.open(fileobj=bounded, mode="r:")


def _members(path: pathlib.Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of a tar, each of which must lie behind the one before it."""
    end = number = 0
    while (member := tar.next()) is not None:
        number += 1
        if number > _MEMBERS:
            raise InputError(f"{path}: has more than {_MEMBERS:,} members; such an archive is not read")
        if member.size < 0 or member.offset_data < end:
            raise tarfile.ReadError("a member of negative size")
        end = member.offset_data
        tar.members.clear()  # type: ignore[attr-defined]  # it keeps them all
        yield member


def _zip(path: pathlib.Path) -> Store:
    """The files of a zip, whose own checksums are checked."""
    members = {}
    with _opened(path) as file:
        archive = zipfile.ZipFile(file)
        for member in archive.infolist():
            if not member.is_dir():
                _check_member(path, member.filename, not stat.S_ISLNK(member.external_attr >> 16))
                members[member.filename.removeprefix("./")] = member

    def load(member: zipfile.ZipInfo, name: str) -> bytes:
        _check_size(path, name, member.file_size, member.compress_size)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{name}: is compressed by a method that is not read; extract it into --source")
        try:
            with archive.open(member) as unpacked:
                return unpacked.read(member.file_size)  # no more, whatever else is in there
        except Exception as error:  # as in `_opened`
            raise InputError(f"{name}: cannot be unpacked ({first_line(error)}); download the archive again") from error

    store = Store(path, members, load)
    weakref.finalize(store, file.close)
    return store


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[io.BufferedReader]:
    """An archive, which stays open unless it cannot be read."""
    file = None
    try:
        file = open_regular(path, ARCHIVE)
        yield file
    except BaseException as error:
        if file is not None:
            file.close()
        if isinstance(error, Exception):  # the parsers raise what they stumble over
            raise _damaged(path, error) from error
        raise


def open_archive(path: pathlib.Path, work: pathlib.Path) -> Store:
    """The files of a .zip, .tar, .tgz or .tar.gz; in the folder `work` a compressed tar is unpacked, once.

    Raises:
      InputError: it is damaged, or holds what is refused.
      OSError: the folder cannot be written.
    """
    return {".zip": _zip, ".tar": _tar}.get(path.suffix, lambda path: Folder(_unpacked(path, work)))(path)


def _unpacked(path: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """The folder of the images of a compressed tar, unpacked but for what an interrupted call has unpacked already."""
    name = fitted(path.name)
    folder, done = work / name, work / f"{name}.done"
    if done.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (
            open_regular(path, ARCHIVE) as file,
            gzip.GzipFile(fileobj=file) as unpacked,
            _listing(unpacked) as tar,
            progress_bar(f"unpacking {path.name}", path.stat().st_size, "B") as bar,
        ):
            end = 0
            for member in _members(path, tar):
                bar.update(file.tell() - bar.n)
                end = member.offset_data + member.size
                _check_size(path, member.name, end, path.stat().st_size, most=ARCHIVE)
                if not member.isdir():
                    _check_member(path, member.name, member.isreg())
                    target = folder / member.name
                    there = target.is_file() and target.stat().st_size == member.size
                    if member.name.lower().endswith(_SUFFIXES) and not there:
                        tar.extract(member, folder, filter="data")
            while unpacked.read(_HEADER):  # up to the checksum, over what fills up the last block
                _check_size(path, "its end", unpacked.tell() - end, most=_FIRST)
    except Exception as error:  # as in `_opened`
        if isinstance(error, OSError) and error.errno in OF_THE_DISK:
            raise  # it is the disk, not what the archive holds
        if isinstance(error, gzip.BadGzipFile):
            shutil.rmtree(folder)  # any of the images may be other than it was
        raise _damaged(path, error) from error
    done.touch()
    return folder


def _check_member(path: pathlib.Path, name: str, is_file: bool) -> None:
    parts = name.replace("\\", "/").split("/")
    lengths = [len(os.fsencode(part)) for part in parts]
    wrong = ""
    if not is_file:
        wrong = "is a link or no file"
    elif not parts[0] or ".." in parts:
        wrong = "leads out of the archive"
    elif len(parts) > _FOLDERS or max(lengths) > _PART or sum(lengths) > _NAME or "\0" in name:
        wrong = "has a name that is too long or too deep"
    if wrong:
        raise InputError(f"{path}: its member {shorten(repr(name), 200)} {wrong}; such an archive is not read")


def _check_size(path: pathlib.Path, name: str, size: int, packed: int | None = None, most: int = IMAGE) -> None:
    """Refuse what grows too much when it is unpacked, up to the end of a member, or is too large for an image."""
    if size > most or (packed is not None and size > _FIRST + _RATIO * packed):
        of = "" if packed is None else f" from {packed:,}"
        raise InputError(f"{path}: {shorten(name, 200)} has {size:,} bytes{of}: no image; such an archive is not read")


def _damaged(path: pathlib.Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    return InputError(f"{path}: cannot be read as an archive ({first_line(error)}); download it again")
