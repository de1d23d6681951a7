"""The names in a user's folders: of splits, images and other files; which may be opened, and which are not there.

Names of files are paths relative to one folder, with ``/`` between their parts.
"""

import os
import pathlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence

from fcam_jax.data.source import SPLITS
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

# What the folder, file or column of a split may say, in the order of `SPLITS`.
_AROUND = r"(?:annotations?|coco|data(?:set)?|images?|imgs?|instances|labels?|sets?|splits?)"
_SPLIT = re.compile(
    rf"(?:\d+[\W_]+)?(?:{_AROUND}[\W_]*)?(?:(tr(?:ai)?n(?:ing)?)|(val(?:id(?:at(?:e|ion))?)?|dev)|(te?st(?:ing)?|eval(?:uat(?:e|ion))?))"
    rf"(?:[\W_]*{_AROUND})?[\W_]*\d*[\W_]*",
    re.IGNORECASE,
)
_LOOKED_FOR = 50  # images by which a folder is recognised as theirs

# Backslashes and drives lead out on Windows.
_LEADS_OUT = re.compile(r"^[/\\]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.([/\\]|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def split_of(name: str) -> str | None:
    """The split that a name means, such as ``Training``, ``val2017`` or ``test_set``; None where it means none."""
    found = _SPLIT.fullmatch(name.strip())
    return SPLITS[(found.lastindex or 0) - 1] if found else None


def in_order(splits: Collection[str]) -> tuple[str, ...]:
    """Those of `SPLITS` that there are."""
    return tuple(split for split in SPLITS if split in splits)


def composed(name: str) -> str:
    """A name in one form: systems write accents in two ways."""
    return unicodedata.normalize("NFC", name)


def refused(names: Iterable[str]) -> dict[str, str]:
    """The names that may not be opened, each with the reason; links in the folder may lead where they like."""
    # Nearly all names pass these quick tests; the thorough ones take seconds for a million.
    suspects = (n for n in names if not n.isprintable() or n[:1] in ("", "/") or ".." in n or "\\" in n or ":" in n)
    return {name: why for name in suspects if (why := _why_refused(name))}


def _why_refused(name: str) -> str | None:
    if not name:
        return "empty path"
    if _CONTROL.search(name):
        return "control characters in the path"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "path is not valid Unicode"
    return "path that leads out of the image folder" if _LEADS_OUT.search(name) else None


def listing(folder: pathlib.Path) -> set[str]:
    """The names in a folder; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (OSError, ValueError):
        return set()


def absent(folder: pathlib.Path, names: Iterable[str]) -> set[str]:
    """The names that the folder does not have, neither itself nor below it.

    Folders are listed once each: asking for every file takes minutes for a million images on a network disk.
    """
    present: dict[str, set[str]] = {}
    missing = set()
    for name in names:
        parent, _, file = name.rpartition("/")
        if parent not in present:
            present[parent] = listing(folder / parent)
        if file not in present[parent]:
            missing.add(name)
    return missing


def as_stored(folder: pathlib.Path, names: Iterable[str]) -> dict[str, str]:
    """Those of some names that are not there, each with the name that the folder has in another form of Unicode."""
    found = {}
    for name in names:
        parts: list[str] = []
        for part in name.split("/"):
            same = (n for n in sorted(listing(folder.joinpath(*parts))) if composed(n) == composed(part))
            if not (stored := next(same, "")):
                break  # before a path of thousands of parts is looked for
            parts.append(stored)
        else:
            found[name] = "/".join(parts)
    return found


def held(folder: pathlib.Path, files: Sequence[str]) -> int:
    """How many of the first files are in a folder."""
    return sum(os.path.isfile(folder / file) for file in files[:_LOOKED_FOR])  # noqa: PTH113 (a Path's raises)


def fullest(folder: pathlib.Path, below: Sequence[str], files: Sequence[str]) -> str:
    """The first of some folders below another, ``""`` or ``"."`` for that itself, in which most of the files lie."""
    best = max(below, key=lambda name: held(folder / name, files))
    return "" if best == "." else best


def relative(path: str, folder: pathlib.Path) -> str:
    """A path from a folder on: backslashes between its parts, and the folder before it, are those of other programs."""
    if "\\" in path and not os.path.lexists(folder / path):
        path = path.replace("\\", "/")
    above = f"{folder.absolute().as_posix()}/"
    return path.removeprefix(above if path.startswith(above) else "./")


def subfolders(folder: pathlib.Path) -> list[str]:
    """The names of the folders in a folder, links to folders among them; none where it is no folder. Raises InputError:
    it cannot be listed.
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


def files_below(folder: pathlib.Path, besides: Collection[tuple[int, int]] = ()) -> Iterator[str]:
    """Paths below a folder of its files, links followed, but for those to other folders."""
    for here, names in walk(folder, besides=besides):
        below = here[len(str(folder)) + 1 :].replace(os.sep, "/")
        if not any(map(_of_system, below.split("/"))):
            yield from (f"{below}/{name}" if below else name for name in names if not _of_system(name))


def identity(folder: pathlib.Path) -> tuple[int, int]:
    """What all names of a folder share."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def _of_system(name: str) -> bool:
    return name.startswith((".", "SYNOFILE_THUMB")) or name.lower() in _OF_SYSTEMS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
