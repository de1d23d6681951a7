"""Whatever happens to the files that describe a data set: an error of one line, or a source that keeps its word."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from fcam_jax.data.folder import FolderSource
from fcam_jax.data.layouts import coco_file
from fcam_jax.data.layouts.registry import splits
from fcam_jax.errors import InputError

DESCRIPTIONS = {"wsol": "metadata/*/*.txt", "csv": "*.csv", "jsonl": "*.jsonl", "coco": "annotations/*.json"}
# What has broken readers before: separators, ends of numbers, of text and of trust.
TOKENS = (
    *(
        "\n",
        "\r\n",
        "\r",
        ",",
        '"',
        "\\",
        ";",
        " ",
        "\t",
        "\0",
        "\x1c",
        "\ufeff",
        "\u2028",
        "[",
        "]",
        "{",
        "}",
        ":",
        "-",
        ".",
    ),
    *("../", "/etc/passwd", "..\\", "C:\\", "//", "nan", "NaN", "Infinity", "null", "true", "1e999", "1_0", "٣", "0x1"),
    *("-1", "2147483648", "99999999999999999999", "1" * 5000, "1.5", "[[", "\\ud800", "é", "a" * 300, ",,,,", '""'),
)
VALUES = (
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../a",
    "\0",
    "\ud800",
    [],
    {},
    [[]],
)


def damaged_text(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with a few random changes."""
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data) + 1))
        end = min(at + int(rng.integers(1, 30)), len(data))
        kind = rng.integers(7)
        token = TOKENS[rng.integers(len(TOKENS))].encode("utf-8", "surrogatepass")
        lines = data.splitlines(keepends=True) or [b""]
        one, other = rng.integers(len(lines), size=2)
        data = (
            data[:at] + token + data[at:],
            data[:at] + token + data[end:],
            data[:at] + data[end:],
            data[:at] + bytes([rng.integers(256)]) + data[at + 1 :],
            data[:at],
            b"".join([*lines[:one], lines[other], *lines[one:]]),
            b"".join([*lines[:one], *lines[one + 1 :]]),
        )[kind]
    return data


def damaged_json(value, rng: np.random.Generator):
    """A JSON value with one random part of it replaced, removed or doubled."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[rng.integers(len(keys))]
        kind = rng.integers(8)
        value = value.copy()
        if kind == 0:
            del value[key]
        elif kind == 1 and isinstance(value, list):
            value.insert(key, value[rng.integers(len(value))])
        else:
            value[key] = damaged_json(value[key], rng)
        return value
    return VALUES[rng.integers(len(VALUES))]


def damage(path: pathlib.Path, rng: np.random.Generator) -> None:
    data = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.6:
        path.write_text(json.dumps(damaged_json(json.loads(data), rng)))
    elif path.suffix == ".jsonl" and rng.random() < 0.6:
        rows = damaged_json([json.loads(line) for line in data.splitlines()], rng)
        path.write_text("\n".join(map(json.dumps, rows if isinstance(rows, list) else [rows])))
    else:
        path.write_bytes(damaged_text(data, rng))


def damage_folders(root: pathlib.Path, rng: np.random.Generator) -> None:
    """Rename, empty, remove or link something in a folder of class folders."""
    paths = sorted(root.rglob("*"))
    path = paths[rng.integers(len(paths))]
    name = ("x", " ", "é", ".hidden", "a.jpg", "a,b", "..x", "a\\..\\b", "a\nb", "train", "valid", "test", "\udcff")
    target = path.with_name(name[rng.integers(len(name))])
    kind = rng.integers(5)
    if kind == 0 and not os.path.lexists(target):
        path.rename(target)
    elif kind == 1 and path.is_file():
        path.write_bytes(b"")
    elif kind == 2:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    elif kind == 3 and not os.path.lexists(target):
        target.symlink_to(root if rng.random() < 0.5 else root / "nowhere", target_is_directory=True)
    elif not os.path.lexists(target):
        target.mkdir()


def check_promises(root: pathlib.Path, on_error: str) -> str:
    """Open and read everything; says what came out."""
    coco_file._categories.cache_clear()
    told = "read"
    try:
        found = splits(root)
    except InputError as error:
        assert str(error) and str(error).isprintable(), error
        return "error"
    for split in found:
        try:
            source = FolderSource(split=split, root=root, on_error=on_error)
        except InputError as error:
            assert str(error) and "\n" not in str(error), error
            told = "error"
            continue
        assert len(source) and all(line.isprintable() for line in source.left_out)
        assert source.class_names is None or len(source.class_names) == source.num_classes
        told = "partly" if source.left_out and told == "read" else told
        located = broken = False
        for index in range(len(source)):
            try:
                record = source[index]
            except InputError as error:
                assert "\n" not in str(error), error
                broken = True
                continue
            height, width = record.image.shape[:2]
            assert 0 <= record.label < source.num_classes
            assert record.boxes is None or len(record.boxes)
            for x0, y0, x1, y1 in record.boxes if record.boxes is not None else ():
                assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
            located |= record.mask is not None or record.boxes is not None
        assert located or broken or not source.truth
    return told


def outcomes(same_data, layout: str, masks: bool, seeds: range) -> dict[str, int]:
    """Damage a data set once for each seed; counts what came out."""
    counts = {"read": 0, "partly": 0, "error": 0}
    root = same_data.write(layout, masks)
    files = sorted(root.glob(DESCRIPTIONS.get(layout, "none")))
    whole = {path: path.read_bytes() for path in files}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        if files:
            path = files[rng.integers(len(files))]
            damage(path, rng)
        else:
            shutil.rmtree(root)
            same_data.write(layout, masks)
            for _ in range(rng.integers(1, 4)):
                damage_folders(root, rng)
        try:
            counts[check_promises(root, ("fail", "skip")[seed % 2])] += 1
        except Exception as error:
            raise AssertionError(f"{layout}, masks {masks}, seed {seed}: {error!r}") from error
        if files:
            path.write_bytes(whole[path])
    return counts


@pytest.mark.parametrize(
    ("layout", "masks"), [(name, masks) for name in DESCRIPTIONS for masks in (False, True)] + [("classes", False)]
)
def test_damage_gives_one_line_or_a_source_that_keeps_its_word(same_data, layout, masks):
    counts = outcomes(same_data, layout, masks, range(40))
    assert counts["error"] > 2 and counts["read"] > 0
