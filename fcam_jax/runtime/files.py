"""Files of a run: records that a crash leaves whole, checksums, and copies that take no room."""

import hashlib
import json
import os
import pathlib
import shutil
from typing import Any


def replace_file(path: pathlib.Path, text: str) -> None:
    """Put a text file in place as a whole: a crash leaves the old one or the new one."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_record(path: pathlib.Path, record: Any) -> None:
    """Put JSON data in place as a whole, laid out for people; its folder is made where it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
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
