"""The manifest of a checkpoint: its files with their checksums, the place that it belongs to, and what is known of it.

    manifest.json   {"facts": {...}, "files": {"state/manifest.ocdbt": [bytes, SHA-256], ...},
                     "place": {"run": ..., "stage": "fcam", "kind": "best", "step": 120}, "sha256": of all these}

Orbax reads flipped bytes without complaint, so a checkpoint counts only where all of this agrees. That takes one pass
over the files, at the speed of SHA-256 (545 MB/s measured on one core of a server): 0.4 s for a ResNet50 with its
momentum. So every checkpoint is verified by its contents whenever it is opened.
"""

import hashlib
import json
import pathlib
from typing import Any

from fcam_jax.errors import InputError
from fcam_jax.runtime.files import file_digest, reason, replace_file
from fcam_jax.runtime.records import read_record

NAME = "manifest.json"

# What the place of a checkpoint is told by: see `checkpoint_folder.py`.
Place = dict[str, Any]

# Written by Orbax after everything else, when the checkpoint gets its name; what is restored depends on neither.
_COMMITTED = ("_CHECKPOINT_METADATA", "commit_success.txt")


class DamagedError(Exception):
    """A checkpoint is not what was written; the message says how."""


def write(folder: pathlib.Path, facts: dict[str, Any], place: Place) -> None:
    """Sum up all files of a checkpoint that will not change any more, and add what is known of it, as JSON data."""
    files = {name: [path.stat().st_size, file_digest(path)] for name, path in sorted(_files(folder).items())}
    _put(folder, {"facts": facts, "files": files, "place": place})


def amend(folder: pathlib.Path, facts: dict[str, Any]) -> None:
    """Replace what is known of a checkpoint, whose files stay as they are."""
    _put(folder, _read(folder) | {"facts": facts})


def facts_of(folder: pathlib.Path) -> dict[str, Any]:
    """What is known of a checkpoint.

    Raises:
      DamagedError: the manifest is damaged or missing.
    """
    facts: dict[str, Any] = _read(folder)["facts"]
    return facts


def run_of(folder: pathlib.Path) -> str:
    """The identity of the run that a checkpoint belongs to; "" for one of an older version.

    Raises:
      DamagedError: the manifest is damaged or missing.
    """
    return str((_read(folder).get("place") or {}).get("run", ""))


def verify(folder: pathlib.Path, place: Place) -> None:
    """Compare a checkpoint with its manifest: the place where it lies, and all its files, which are read.

    Raises:
      DamagedError: it belongs elsewhere, or for the first file that is missing or not as it was.
    """
    contents = _read(folder)
    # Of an older version, which wrote down the step alone, and no identity of the run either.
    there = contents.get("place") or {**place, "run": "", "step": contents["facts"].get("step")}
    other = [f"{name} {there.get(name)}, not {here}" for name, here in place.items() if there.get(name) != here]
    if other:
        raise DamagedError(f"it is another one, which was put there: of {', of '.join(other)}")
    for name, (size, digest) in contents["files"].items():
        path = folder / name
        try:
            there = path.stat().st_size
            if there != size:
                raise DamagedError(f"{name} has {there} bytes instead of {size}")
            if file_digest(path) != digest:
                raise DamagedError(f"{name} has other contents than were written")
        except FileNotFoundError:
            raise DamagedError(f"{name} is missing") from None
        except OSError as error:
            raise DamagedError(f"{name} cannot be read: {reason(error)}") from error


def _put(folder: pathlib.Path, contents: dict[str, Any]) -> None:
    body: dict[str, Any] = {name: contents[name] for name in ("facts", "files", "place") if name in contents}
    replace_file(folder / NAME, json.dumps(body | {"sha256": _sum(body)}) + "\n")


def _read(folder: pathlib.Path) -> dict[str, Any]:
    if not (folder / NAME).exists():
        raise DamagedError(f"it has no {NAME}: unfinished, or of an older version of this program")
    try:
        contents = read_record(folder / NAME, "", facts=dict, files=dict, sha256=str, place=(dict, type(None)))
    except InputError:
        contents = {"sha256": ""}
    summed = contents.pop("sha256")
    if summed != _sum(contents):
        raise DamagedError(f"{NAME} has other contents than were written")
    return contents


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """All files of a checkpoint that count, by their names within it."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if name not in (NAME, *_COMMITTED, f"{NAME}.partial")}


def _sum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
