"""The folders and files of a user's tree: without those of the system, and with those that links lead to."""

import os
import pathlib
from collections.abc import Collection, Iterator

from fcam_jax.errors import InputError
from fcam_jax.runtime.files import reason, walk

# By these a folder's images are told from its other files.
SUFFIXES = tuple(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .avif .jp2 .ppm .pgm .pbm .pnm .tga".split()  # noqa: SIM905
)

# Pictures all the same, but none that can be read.
UNREAD = (
    *".heic .heif .hif .jxl .dcm .dicom .ima .nii .nii.gz .mha .mhd .nrrd .svs .ndpi .czi .raw .nef .cr2 .cr3".split(),  # noqa: SIM905
    *".arw .dng .orf .rw2 .raf .pef .srw .psd .svg .eps .pdf .exr .hdr .mp4 .mov .avi .mkv .webm .m4v .wmv".split(),  # noqa: SIM905
)

# What systems and file servers leave behind, beside what begins with a dot.
_OF_SYSTEMS = {"system volume information", "icon\r"}.union(
    "thumbs.db ehthumbs.db thumbs thumbnails desktop.ini @eadir @__thumb __macosx".split(),  # noqa: SIM905
    "#recycle @recycle $recycle.bin lost+found".split(),  # noqa: SIM905
)


def subfolders(folder: pathlib.Path) -> list[str]:
    """The names of the folders in a folder, links to folders among them; none where it is no folder.

    Raises:
      InputError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not _of_system(entry.name) and _is_folder(entry))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {reason(error)}") from error


def files_in(folder: pathlib.Path) -> list[str]:
    """The names of the files in a folder, in order."""
    return [name for name in next(walk(folder))[1] if not _of_system(name)]


def identity(folder: pathlib.Path) -> tuple[int, int]:
    """What all names of a folder share."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def files_below(folder: pathlib.Path, besides: Collection[tuple[int, int]] = ()) -> Iterator[str]:
    """Paths below a folder of its files, links followed, but for those to other folders."""
    for here, names in walk(folder, besides=besides):
        below = here[len(str(folder)) + 1 :].replace(os.sep, "/")
        if not any(map(_of_system, below.split("/"))):
            yield from (f"{below}/{name}" if below else name for name in names if not _of_system(name))


def _of_system(name: str) -> bool:
    return name.startswith((".", "SYNOFILE_THUMB")) or name.lower() in _OF_SYSTEMS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
