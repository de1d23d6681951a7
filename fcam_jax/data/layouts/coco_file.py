"""Where the files of a data set in COCO's format lie, and their JSON.

In: the data set's folder. Out: the annotation file of each split, its lists, and the folder of its images.
"""

import functools
import json
import os
import pathlib
import reprlib
from collections.abc import Sequence
from typing import Any

from fcam_jax.data.layouts.paths import SPLIT_NAMES, refused
from fcam_jax.data.layouts.problems import Problems
from fcam_jax.errors import InputError
from fcam_jax.runtime.files import open_text
from fcam_jax.runtime.text import listed

# Of a split called {}, in the data set's folder.
PATTERNS = ("annotations/instances_{}*.json", "annotations/{}.json", "{}.json", "{}/_annotations.coco.json")
_LOOKED_FOR = 50  # images by which a folder is recognised as theirs


def split_files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The splits that a folder has, each with its annotation file.

    Raises:
      InputError: a split has several files.
    """
    files: dict[str, pathlib.Path] = {}
    for split, names in SPLIT_NAMES.items():
        patterns = [pattern.format(name) for name in names for pattern in PATTERNS]
        found = sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})
        if len(found) > 1:
            raise InputError(f"{root}: several files of split {split}, keep one: {listed(list(map(str, found)))}")
        if found:
            files[split] = found[0]
    return files


def read_json(path: pathlib.Path, problems: Problems) -> dict[str, list[Any]]:
    """The lists `images`, `annotations` and `categories` of a file.

    Raises:
      InputError: the file is no JSON, or has none of these.
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
    """Ids and names of the categories of several files, by id.

    Args:
      own: a file that is read already.
      entries: its categories.
      others: the other files.
      problems: is told of what it raises.

    Raises:
      InputError: a category has no id or name, or two names.
    """
    names: dict[int, tuple[str, pathlib.Path]] = {}
    of_others = ((path, _categories(path, path.stat().st_mtime_ns, path.stat().st_size)) for path in others)
    for path, found in ((own, _named(entries)), *of_others):
        for category_id, name in found:
            if type(category_id) is not int or not isinstance(name, str) or not name or refused([name]):
                shown = reprlib.repr((category_id, name))
                raise problems.stop(path, f"a category needs an integer id and a name of plain letters: {shown}")
            other, where = names.setdefault(category_id, (name, path))
            if other != name:
                raise problems.stop(path, f"category {category_id} is {name!r}, but {other!r} in {where}")
    return {category_id: names[category_id][0] for category_id in sorted(names)}


@functools.lru_cache(maxsize=8)
def _categories(path: pathlib.Path, modified: int, size: int) -> tuple[tuple[Any, Any], ...]:
    """Remembered: to read a file of a gigabyte takes ten seconds, and all splits ask for those of all others."""
    return _named(read_json(path, Problems())["categories"])


def _named(entries: list[dict[str, Any]]) -> tuple[tuple[Any, Any], ...]:
    return tuple((entry.get("id"), entry.get("name")) for entry in entries)


def image_folder(root: pathlib.Path, annotations: pathlib.Path, files: Sequence[str]) -> str:
    """The folder below the root in which most of a split's first images lie.

    Looked through are, in this order, the folder of the annotation file, the root, `images`, and folders of both which
    are called as the split or as the end of the file's name (`train2017` of `instances_train2017.json`).

    Args:
      root: the folder of all images.
      annotations: the split's file.
      files: names of its images, those that may be opened.

    Returns:
      The folder relative to the root, ``""`` for the root itself.
    """
    ending = annotations.stem.removeprefix("instances_")
    tags = [ending, *(name for names in SPLIT_NAMES.values() if ending.startswith(names) for name in names)]
    parent = annotations.parent
    own = [parent.relative_to(root).as_posix()] if parent.is_relative_to(root) else []
    folders = [*own, "", "images", *tags, *(f"images/{tag}" for tag in tags)]
    sample = files[:_LOOKED_FOR]

    def held(folder: str) -> int:
        return sum(os.path.isfile(root / folder / name) for name in sample)  # noqa: PTH113 (a Path's raises)

    best = max(folders, key=held)  # the first of those that hold as many
    return "" if best == "." else best
