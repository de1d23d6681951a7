"""The files of a data set in COCO's format: that of each split, the lists in its JSON, and the folder of its images."""

import functools
import json
import mmap
import pathlib
import re
import reprlib
from collections.abc import Sequence
from typing import Any

from fcam_jax.data.layouts.problems import Problems
from fcam_jax.data.layouts.tree import fullest, in_order, listing, refused, split_of, subfolders
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import TABLE, open_regular, open_text
from fcam_jax.runtime.text import listed

_INTEGER = re.compile(r"-?[0-9]{1,18}")
# Names of files that need no look at their content.
_PLAIN, _ROBOFLOW = ("train", "val", "valid", "test"), "_annotations.coco.json"


def split_files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The splits that a folder has, each with its annotation file; one file without a split is that of ``""``. Raises
    InputError: a split has several files, or there are several without one.
    """
    named = [name for name in subfolders(root) if split_of(name)]
    found = [(path.stem, path) for folder in (root / "annotations", root) for path in _json_files(folder)]
    found += [(name, path) for name in named for path in _json_files(root / name)]
    files: dict[str, list[pathlib.Path]] = {}
    for name, path in found:
        called = name.removeprefix("instances_")
        split = split_of(called)
        known = path.parent.name == "annotations" or called in _PLAIN or path.name == _ROBOFLOW
        if (split and known and name != path.parent.name) or path.name == _ROBOFLOW or _is_coco(path):
            files.setdefault(split or split_of(re.split(r"[\W_]", called)[0]) or "", []).append(path)
    files = {split: files[split] for split in in_order(files)} or files
    for split, some in files.items():
        if len(some) > 1:
            text = f"several files of split {split}, keep one" if split else "several files without a split, keep one"
            raise InputError(f"{root}: {text}: {listed(list(map(str, some)))}")
    return {split: some[0] for split, some in files.items()}


def _json_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [folder / name for name in sorted(listing(folder)) if name.endswith(".json") and not name.startswith(".")]


def _is_coco(path: pathlib.Path) -> bool:
    """Whether the keys of a COCO file are in a file."""
    try:
        with open_regular(path, TABLE) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return all(data.find(key) >= 0 for key in (b'"images"', b'"annotations"', b'"categories"'))
    except (OSError, ValueError):  # it is empty, or no file
        return False


def read_json(path: pathlib.Path, problems: Problems) -> dict[str, list[Any]]:
    """The lists `images`, `annotations` and `categories` of a file. Raises InputError: the file is no JSON, or has none
    of these.
    """
    try:
        with open_text(path) as file:
            content = json.load(file)
    except json.JSONDecodeError as error:
        text = f"cannot be read as JSON: {error.msg}, column {error.colno}"
        raise problems.stop(path, text, line=error.lineno) from error
    except (OSError, ValueError, RecursionError) as error:
        raise problems.stop(path, f"cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise problems.stop(path, "must be an object, {...}")
    lists = {name: content.get(name) for name in ("images", "annotations", "categories")}
    for name, entries in lists.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise problems.stop(path, f'needs "{name}": a list of objects')
    return lists  # type: ignore[return-value]


def categories(
    own: pathlib.Path, entries: list[dict[str, Any]], others: Sequence[pathlib.Path], problems: Problems
) -> dict[int, str]:
    """Names by id of the categories of a file, which is read already, and of others. Raises InputError: a category has
    no id or name, or two names.
    """
    names: dict[int, tuple[str, pathlib.Path]] = {}
    for path in (own, *others):
        status = path.stat() if path.exists() else None
        state = (status.st_mtime_ns, status.st_size) if status else ()
        found = _named(entries) if path == own else _categories(path, state)
        for category_id, name in found:
            if category_id is None or not name or refused([name]):
                shown = reprlib.repr((category_id, name))
                raise problems.stop(path, f"a category needs an integer id and a name of plain letters: {shown}")
            other, where = names.setdefault(category_id, (name, path))
            if other != name:
                raise problems.stop(path, f"category {category_id} is {name!r}, but {other!r} in {where}")
    return {category_id: names[category_id][0] for category_id in sorted(names)}


# To read a file of a gigabyte takes ten seconds, and all splits ask for those of all others.
@functools.lru_cache(maxsize=8)
def _categories(path: pathlib.Path, state: tuple[int, ...]) -> tuple[tuple[int | None, str], ...]:
    return _named(read_json(path, Problems())["categories"])


def _named(entries: list[dict[str, Any]]) -> tuple[tuple[int | None, str], ...]:
    names = (entry.get("name") for entry in entries)
    texts = [str(name).strip() if type(name) in (str, int) else "" for name in names]
    return tuple(zip((integer(entry.get("id")) for entry in entries), texts, strict=True))


def integer(value: Any) -> int | None:
    """A whole number, which some programs write as a text or with a point; None where it is none."""
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) else None
    whole = type(value) is int or (type(value) is float and value.is_integer())
    return int(value) if whole and abs(value) < 2**63 else None


def image_folder(root: pathlib.Path, annotations: pathlib.Path, split: str, files: Sequence[str]) -> str:
    """The folder, from the root on, in which most of a split's first images lie, whose names may be opened.

    Looked through are, in this order, the folder of the annotation file, the root, `images`, and folders of both which
    are called as the split or as the end of the file's name (`train2017` of `instances_train2017.json`).
    """
    ending, parent = annotations.stem.removeprefix("instances_"), annotations.parent
    own = [parent.relative_to(root).as_posix()] if parent.is_relative_to(root) else []
    tags = [
        below + name
        for below in ("", "images/")
        for name in (ending, *(name for name in subfolders(root / below) if split_of(name) == split))
    ]
    return fullest(root, [*own, *(f"{name}/data" for name in own), "", "images", "data", *tags], files)
