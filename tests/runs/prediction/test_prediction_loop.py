"""Which images are predicted, and that one of them does not end the prediction of the others."""

import csv
import json
import os

import numpy as np
import PIL.Image
import pytest
from pretended import pretended

from fcam_jax.runs.prediction.images import find_images
from fcam_jax.runs.prediction.loop import Outputs, predict_into
from fcam_jax.runs.prediction.restored import Predicted

NAMES = ("=1+1", "auk")


def anything(images, labels):
    """Says that every image is of class 0, and the object everywhere."""
    count = len(images)
    return Predicted(np.ones((count, 8, 8), np.float32), np.eye(2, dtype=np.float32)[[0] * count], labels * 0)


def predicted(given, out):
    """Records by name, and those that failed."""
    files, outputs = find_images([str(given)], []).files, Outputs(1, full_size=True, max_side=80)
    _, failed = predict_into(out, files, pretended(anything, NAMES, 8), outputs, 2)
    records = map(json.loads, (out / "predictions.jsonl").read_text().splitlines())
    return {record["image"]: record for record in records}, failed


def save(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (12, 9)).save(path)


def test_long_names_are_shortened_and_the_others_are_predicted(tmp_path):
    photos, long = tmp_path / "photos", "x" * 247
    deep = "/".join(["y" * 250] * 6)
    names = ["a.jpg", f"{long}.jpg", f"{long}.png", f"é{'ü' * 124}.jpg", f"{deep}/b.jpg", f"{deep}/c.jpg"]
    save(*(photos / name for name in names))
    records, failed = predicted(photos, tmp_path / "out")
    assert records.keys() == set(names) and not failed
    files = [record[key] for record in records.values() for key in ("map", "levels", "overlay")]
    assert len(set(files)) == 18 and all((tmp_path / "out" / file).is_file() for file in files)
    assert records["a.jpg"]["map"] == "maps/a.jpg.npy"


def test_an_image_whose_outputs_have_no_place_is_told_and_the_others_are_predicted(tmp_path):
    save(tmp_path / "photos" / "a.jpg", tmp_path / "photos" / "b.jpg")
    (tmp_path / "out" / "maps" / "a.jpg.png").mkdir(parents=True)
    records, (failed,) = predicted(tmp_path / "photos", tmp_path / "out")
    assert list(records) == ["b.jpg"] and "a.jpg: its outputs cannot be written: " in failed


def test_maps_without_a_place_and_boxes_of_the_whole_image_are_told(tmp_path, caplog):
    save(tmp_path / "photos" / "a.jpg", tmp_path / "photos" / "b.jpg")
    predicted(tmp_path / "photos", tmp_path / "out")
    (told,) = caplog.messages
    first = tmp_path / "photos" / "a.jpg"
    maps = f"2 of 2 maps are constant (max - min below 0.1), first {first}"
    assert told == f"{maps}; 2 of 2 boxes cover over 95 % of the image, first {first}: see docs/poor_results.md"


def test_a_class_or_an_image_that_is_called_like_a_formula_is_none_in_the_table(tmp_path):
    save(tmp_path / "photos" / "@x.jpg")
    predicted(tmp_path / "photos", tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["image"], row["class"], row["top1_class"]) == ("'@x.jpg", "'=1+1", "'=1+1")


@pytest.mark.parametrize("given", ["", "**/*.jpg", "**"])
def test_links_that_form_loops_give_each_image_once(tmp_path, given):
    save(tmp_path / "a.jpg", tmp_path / "sub" / "b.jpg")
    for link in ("self", "again", "sub/up"):
        (tmp_path / link).symlink_to(tmp_path)
    assert [file.name for file in find_images([str(tmp_path / given)], []).files] == ["a.jpg", "sub/b.jpg"]


def test_patterns_match_as_in_a_shell(tmp_path):
    save(*(tmp_path / name for name in ("a.jpg", "b.png", "x/a.jpg", "x/y/a.jpg", "x/.hidden/a.jpg", "[z]/a.jpg")))

    def found(pattern):
        return [file.name for file in find_images([f"{tmp_path}/{pattern}"], []).files]

    assert found("*.jpg") == ["a.jpg"] and found("*/a.jpg") == ["[z]/a.jpg", "x/a.jpg"]
    assert found("**/*.jpg") == ["[z]/a.jpg", "a.jpg", "x/a.jpg", "x/y/a.jpg"]
    assert found("x/**/?.jpg") == ["a.jpg", "y/a.jpg"] and found("**/y/*") == ["x/y/a.jpg"]


def test_what_is_no_file_is_told(tmp_path):
    save(tmp_path / "photos" / "a.jpg")
    os.mkfifo(tmp_path / "photos" / "pipe.jpg")
    (tmp_path / "photos" / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "photos" / "loop.jpg").symlink_to("loop.jpg")
    records, failed = predicted(tmp_path / "photos", tmp_path / "out")
    assert list(records) == ["a.jpg"]
    assert [line.split(": ")[0].rsplit("/")[-1] for line in sorted(failed)] == ["loop.jpg", "pipe.jpg", "zero.jpg"]


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"image": ["a.jpg"]}', '{"image": "\\u0000"}', "7", "null", '{"box": 1e999}', "\x00" * 99],
)
def test_damaged_lines_of_the_journal_are_predicted_again(tmp_path, line):
    save(tmp_path / "photos" / "a.jpg")
    predicted(tmp_path / "photos", tmp_path / "out")
    whole = (tmp_path / "out" / "predictions.jsonl").read_text()
    record = json.loads(whole)
    for spoiled in (line, json.dumps(record | {"box": 3}), json.dumps(record | {"top": [1]}), json.dumps({"image": 1})):
        (tmp_path / "out" / "predictions.jsonl").write_text(f"{spoiled}\n")
        assert list(predicted(tmp_path / "photos", tmp_path / "out")[0]) == ["a.jpg"]
