"""The checker lists every problem, and its manifest gives the same records."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest

from fcam_jax.cli import command
from fcam_jax.data.folder import FolderSource
from fcam_jax.data.source import Record
from fcam_jax.errors import InputError


def main(words: list[str]) -> int:
    return command.main(["check", *words])


def same_records(one: FolderSource, other: FolderSource) -> None:
    assert len(one) == len(other) and one.fingerprint == other.fingerprint and one.class_names == other.class_names
    for index in range(len(one)):
        same_record(one[index], other[index])


def same_record(one: Record, other: Record) -> None:
    for mine, theirs in zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("layout", ["wsol", "csv", "jsonl", "coco", "classes"])
def test_the_manifest_of_a_whole_data_set_gives_the_same_records(same_data, layout, masks, capsys):
    root = same_data.write(layout, masks)
    out = root.parent / "manifest.jsonl"
    assert main([f"--root={root}", f"--out={out}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "0 error(s)" in printed[-6] and printed[-1] == f"{out}: 7 images"
    kinds = {"classes": (0, 0)}.get(layout, (0, 3) if masks else (3, 0))
    assert printed[-4].split() == ["train", "3", "2", *map(str, kinds), "0", "0", "3"]
    for split in ("train", "val", "test"):
        same_records(FolderSource(split=split, root=out.parent), FolderSource(split=split, root=root))
    assert main([f"--root={out.parent}"]) == 0


def test_every_problem_is_listed_with_its_place(same_data, capsys):
    root = same_data.write("wsol", masks=True)
    train, test = ([root / "images" / row[0] for row in same_data.images(split)] for split in ("train", "test"))
    labels = root / "metadata/train/class_labels.txt"
    labels.write_text(labels.read_text().replace("honey/1 é.png,1", "honey/1 é.png,one"))
    train[0].write_bytes(train[0].read_bytes()[:90])
    test[0].write_bytes(train[1].read_bytes())
    PIL.Image.fromarray(np.zeros((10, 20), bool)).save(root / "images/masks/val 0.png")
    PIL.Image.fromarray(np.eye(10, 21, dtype=bool)).save(root / "images/masks/val 1.png")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(test[1], exif=exif)
    out = root / "images/manifest.jsonl"
    assert main([f"--root={root}", f"--out={out}", "--workers=2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    images, val = root / "images", [row[0] for row in same_data.images("val")]
    assert lines[:3] == [
        f"error: {train[0]}: {lines[0].partition('.png: ')[2]}",
        f"error: {images / val[0]}: its mask is black everywhere",
        f"error: {labels}, line 3: label is not an integer: 'train/bee, honey/1 é.png,one'",
    ]
    assert lines[3].startswith(f"warning: {root}: 1 class(es) without training images: ")
    twin = same_data.images("train")[1][0]
    assert lines[4] == f"warning: {test[0]}: of test has the content of {twin} of train: a leak"
    assert lines[5].startswith(f"warning: {test[1]}: EXIF orientation 6; ")
    assert lines[6] == f"warning: {images / val[1]}: has 20 x 10 pixels, its mask 21 x 10: another shape"
    assert lines[7].endswith("layout wsol, 3 error(s), 4 warning(s)")
    assert [line.split() for line in lines[9:12]] == [
        ["train", "3", "1", "0", "3", "2", "0", "1"],
        ["val", "2", "2", "0", "2", "1", "1", "1"],
        ["test", "2", "2", "0", "2", "0", "1", "2"],
    ]
    kept = [json.loads(line)["path"] for line in out.read_text().splitlines()]
    usable = same_data.images("train")[1:2] + same_data.images("val")[1:] + same_data.images("test")
    assert kept == [row[0] for row in usable]

    assert main([f"--root={root}", "--quick", "--layout=wsol"]) == 1
    quick = capsys.readouterr().out
    assert "is not an integer" in quick and "EXIF" in quick and "black" not in quick and "leak" not in quick
    main([f"--root={root}", "--upright", "--splits=test"])
    upright = capsys.readouterr().out
    assert "EXIF" not in upright and f"error: {test[1]}: has 10 x 20 pixels, but 20 x 10 according to" in upright


def test_an_image_in_two_splits_is_a_leak(tmp_path, capsys):
    PIL.Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "manifest.csv").write_text("path,label,split\na.png,0,train\na.png,0,test\n")
    assert main([f"--root={tmp_path}"]) == 0
    assert f"warning: {tmp_path / 'a.png'}: is in train and in test: a leak\n" in capsys.readouterr().out


def test_a_split_that_cannot_be_read_does_not_hide_the_others(same_data, capsys):
    root = same_data.write("coco")
    (root / "annotations/instances_val2017.json").write_text("{")
    next(root.glob("test/*/0*")).unlink()
    assert main([f"--root={root}", "--splits=val,test"]) == 1
    printed = capsys.readouterr().out
    assert "instances_val2017.json, line 1: cannot be read as JSON" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--splits=dev"], "unknown split 'dev'; known: test, train, val"),
        (["--workers=0"], "--workers is 0; it must be at least 1"),
        (["--out={root}/a.jsonl", "--quick"], "--out needs the content of all images"),
        (["--out={root}/deeper/manifest.jsonl"], "must lie in {root} or in a folder above it"),
        (["--layout=imagenet"], "unknown layout 'imagenet'"),
    ],
)
def test_bad_options_are_told(same_data, arguments, words):
    root = same_data.write("csv")
    with pytest.raises(SystemExit) as caught:
        main([f"--root={root}", *(argument.format(root=root) for argument in arguments)])
    assert str(caught.value).startswith("error: ") and words.format(root=root) in str(caught.value)


def test_cub50_has_no_error_and_its_manifest_gives_the_same_records(shared, tmp_path, capsys):
    (tmp_path / "cub50").symlink_to(shared.resolve() / "data/cub50")
    out = tmp_path / "manifest.jsonl"
    assert main([f"--root={tmp_path / 'cub50'}", f"--out={out}", "--splits=val"]) == 0
    assert "layout wsol, 0 error(s)" in capsys.readouterr().out
    one, other = (FolderSource(split="val", root=root) for root in (tmp_path, tmp_path / "cub50"))
    assert one.fingerprint == other.fingerprint and one.class_names == other.class_names
    for index in (0, 100, 249):
        same_record(one[index], other[index])


def test_a_jpeg_that_libjpeg_warns_of_is_to_be_looked_at_and_then_read_by_its_checksum(tmp_path, capsys):
    (tmp_path / "train" / "owl").mkdir(parents=True)
    path = tmp_path / "train" / "owl" / "1.jpg"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    whole = FolderSource(split="train", root=tmp_path)[0].image
    path.write_bytes(path.read_bytes()[:-2] + 40 * b"\x12" + b"\xff\xd9")
    with pytest.raises(InputError, match="extraneous bytes"):
        FolderSource(split="train", root=tmp_path)[0]
    assert main([f"--root={tmp_path}", f"--out={tmp_path / 'manifest.jsonl'}"]) == 0
    assert f"warning: {path}: damaged: " in capsys.readouterr().out
    np.testing.assert_array_equal(FolderSource(split="train", root=tmp_path)[0].image, whole)
    path.write_bytes(path.read_bytes()[:-2] + 40 * b"\x12" + b"\xff\xd9")
    with pytest.raises(InputError, match="SHA-256 is not the one of the manifest"):
        FolderSource(split="train", root=tmp_path)[0]
