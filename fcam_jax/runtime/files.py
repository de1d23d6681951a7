"""Files of a run: records that a crash leaves whole, checksums, and copies that take no room."""

import hashlib
import json
import os
import pathlib
import shutil
from typing import Any


def replace_file(path: pathlib.Path, data: str | bytes, *, sync: bool = True) -> None:
    """Put a file in place as a whole: a crash leaves the old one or the new one. Its folder is made where it is not.

    Args:
      path: of the file.
      data: its contents; a text is written in UTF-8.
      sync: wait until the disk has it, so that this holds when the machine stops, too.
    """
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    partial.replace(path)


def write_record(path: pathlib.Path, record: Any) -> None:
    """Put JSON data in place as a whole, laid out for people."""
    replace_file(path, json.dumps(record, indent=2) + "\n")


def file_digest(path: pathlib.Path) -> str:
    """SHA-256 of a file's contents, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_copy(source: str | pathlib.Path, target: str | pathlib.Path) -> None:
    """Give a file another name, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
