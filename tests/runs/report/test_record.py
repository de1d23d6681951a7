"""What an evaluation leaves in a run's folder, and what the report reads of it."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from made_runs import TAUS, evaluation, ids, make_run, write_log, write_results

from fcam_jax.errors import InputError
from fcam_jax.evaluation.boxes import box_iou, largest_box, quantise
from fcam_jax.runs.class_names import save_names
from fcam_jax.runs.report.aggregate import configurations
from fcam_jax.runs.report.figures import grids
from fcam_jax.runs.report.record import save_record
from fcam_jax.runs.report.runs import read_examples, read_pixels, read_run
from fcam_jax.runs.report.tables import details

CURVE = (np.array([1.0, 0.5]), np.array([0.2, 1.0]))


def read(folder):
    return read_run(folder).records[0]


def test_figures_and_curves_come_back_as_they_were(tmp_path):
    counts = np.arange(256)
    given = dataclasses.replace(evaluation(ids(3), {"MaxBoxAcc": 61.25}), histogram=counts, precision_recall=CURVE)
    make_run(tmp_path / "run", {"CAM": {}})
    save_record(tmp_path / "run", "CAM", given, images=1389, split="val")
    found = read(tmp_path / "run")
    assert (found.row, found.split, found.images) == ("CAM", "val", 1389)
    assert found.figures == {"MaxBoxAcc": 61.25, "MaxBoxAcc_threshold": 0.4}
    np.testing.assert_array_equal(found.thresholds, TAUS)
    np.testing.assert_array_equal(found.curves["MaxBoxAcc"], given.curves["MaxBoxAcc"])
    np.testing.assert_array_equal(found.histogram, counts)
    np.testing.assert_array_equal(found.precision_recall, CURVE)


def test_examples_come_back_with_levels_boxes_and_masks(tmp_path):
    given = evaluation(ids(3), {}, threshold=0.35)
    make_run(tmp_path / "run", {"CAM": {}})
    save_record(tmp_path / "run", "CAM", given, images=3)
    examples, left_out = read_examples(tmp_path / "run", ["CAM"])
    assert left_out == [] and [one.image_id for one in examples] == ids(3)
    for one, source in zip(examples, given.examples, strict=True):
        pixels = read_pixels(one)
        truth = pixels.truth(one)
        (finding,) = one.findings
        np.testing.assert_array_equal(pixels.levels[0], quantise(source.score_map))
        np.testing.assert_array_equal(truth.boxes, source.annotation.boxes)
        np.testing.assert_array_equal(truth.mask, source.annotation.mask)
        np.testing.assert_array_equal(truth.ignore, source.annotation.ignore)
        assert np.abs(pixels.image.astype(int) - source.image).mean() < 6  # JPEG
        assert (one.label, one.class_name) == (source.annotation.label, f"class {one.label}")
        assert (finding.rank, finding.predicted, finding.threshold) == (source.rank, source.predicted, 0.35)
        box = largest_box(source.score_map, 0.35)
        np.testing.assert_array_equal(finding.box, box)
        assert finding.iou == box_iou(box[None], source.annotation.boxes).max()


def test_methods_share_an_image_and_each_has_its_map(tmp_path):
    make_run(tmp_path / "run", {"CAM": {}, "F-CAM": {}, "Center": {}})
    folder = tmp_path / "run" / "evaluation" / "examples"
    assert len(list(folder.glob("*.jpg"))) == 4 and len(list(folder.glob("*/*.png"))) == 12
    rows = [record.row for record in read_run(tmp_path / "run").records]
    assert rows == ["Center", "CAM", "F-CAM"]
    examples, _ = read_examples(tmp_path / "run", rows)
    assert [[finding.row for finding in one.findings] for one in examples] == [rows] * 4


@pytest.mark.parametrize("row", ["F-CAM, no threshold", "../up", "a/b", "ä<b>", "C:\\x*?"])
def test_any_name_of_a_method_is_one_file(tmp_path, row):
    make_run(tmp_path / "run", {row: {"PxAP": 1.0}}, names=["x.jpg"])
    assert len(list((tmp_path / "run" / "evaluation").glob("*.json"))) == 1
    assert read(tmp_path / "run").row == row
    assert len(read_examples(tmp_path / "run", [row])[0]) == 1


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>.jpg", "../../up.jpg", "\udcff.jpg", "a\nb.jpg", "鳥/🐦.png"]
)
def test_any_name_of_an_image_is_kept(tmp_path, name):
    make_run(tmp_path / "run", {"CAM": {}}, names=[name])
    (one,), _ = read_examples(tmp_path / "run", ["CAM"])
    assert one.image_id == name
    assert one.image_file.parent == tmp_path / "run" / "evaluation" / "examples"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_second_evaluation_replaces_the_first_and_leaves_nothing_half_written(tmp_path):
    make_run(tmp_path / "run", {"CAM": {"PxAP": 1.0}})
    save_record(tmp_path / "run", "CAM", evaluation(ids(2), {"PxAP": 2.0}), images=2)
    assert read(tmp_path / "run").figures["PxAP"] == 2.0
    assert len(read_examples(tmp_path / "run", ["CAM"])[0]) == 2
    assert not list(tmp_path.rglob("*.partial"))


def test_the_evaluation_of_another_split_has_its_folder_in_the_run(tmp_path):
    make_run(tmp_path / "run", {"CAM": {"PxAP": 1.0}})
    save_record(tmp_path / "run" / "val", "CAM", evaluation(ids(2), {"PxAP": 2.0}), images=2, split="val")
    write_log(tmp_path / "run", "classifier", [1.0])
    found = read_run(tmp_path / "run" / "val")
    assert found.records[0].split == "val" and found.records[0].figures["PxAP"] == 2.0
    assert list(found.history) == ["classifier"] and found.seed == 0 and found.kept == found.marks == {}


def test_the_step_of_the_model_that_was_evaluated_is_known(tmp_path):
    run = make_run(tmp_path / "run")
    write_results(run, {"CAM": {"MaxBoxAcc": 1.0}, "F-CAM": {"MaxBoxAcc": 2.0}})
    found = read_run(run)
    assert found.kept == {"classifier": 40, "fcam": 40} and found.marks == {}
    (run / "results.json").write_text('{"checkpoints": {"CAM": {"stage": "classifier"}}}')
    damaged = read_run(run)
    assert damaged.kept == {} and len(damaged.records) == 2
    assert damaged.damaged[0].startswith(f"{run / 'results.json'} is damaged")


def test_what_a_training_started_from_is_known(tmp_path):
    run, file, name = make_run(tmp_path / "run"), "/cache/model.safetensors", "timm:resnet18.tv_in1k"
    by_path = {"files": {"a/encoder.pt": "1" * 64, "a/head.pt": "2" * 64}, "download": None}
    by_name = {"files": {file: "3" * 64}, "download": {"name": name, "url": "https://hub", "path": file}}
    write_results(run, {"CAM": {"MaxBoxAcc": 1.0}}, pretrained={"CAM": by_name, "F-CAM": by_path})
    found = read_run(run).started
    assert found["CAM"] == [(name, "https://hub", "3" * 64)]
    assert found["F-CAM"] == [("a/encoder.pt", "", "1" * 64), ("a/head.pt", "", "2" * 64)]
    table = details(configurations([read_run(run)]))[-1]
    assert [cell.text for cell in table.rows[0]] == ["CAM", "1", "0", name, "https://hub", "3" * 16]
    assert table.caption == "What trainings started from" and len(table.rows) == 3
    (run / "results.json").write_text('{"checkpoints": {}, "pretrained": {"CAM": {}}}')
    assert read_run(run).damaged[0].startswith(f"{run / 'results.json'} is damaged")


def damage(name, text):
    return lambda run: (run / name).write_text(text)


def change(**fields):
    def apply(run):
        path = run / "evaluation" / "CAM.json"
        record = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "config.json").unlink(), r"run holds no run: there is no .*run/config\.json$"),
        (damage("config.json", "{"), r"config\.json is damaged"),
        (damage("config.json", "[]"), r"config\.json is damaged \(it holds no JSON object\)"),
        (damage("config.json", '{"data": {"name": 3}}'), r"config\.json is damaged \(its data.name is 3\)"),
        (
            damage("config.json", '{"a":' * 10**5 + "1"),
            r"config\.json is damaged \(it is nested too deeply\)",
        ),
        (damage("config.json", '{"fcam": {"loss": [1]}}'), r"config\.json is damaged \(its fcam.loss is \[1\]\)"),
        (
            lambda run: (run / "evaluation" / "CAM.json").unlink(),
            r"run has no evaluation record in .*evaluation; evaluate the run again \(--mode=eval\), on a split",
        ),
        (damage("evaluation/CAM.json", '{"version": 2,'), r"evaluation/CAM\.json is damaged .*--mode=eval"),
        (damage("evaluation/CAM.json", "\x00\xff"), r"evaluation/CAM\.json is damaged"),
        (change(version=99), r"CAM\.json is of version 99 of the record, not 2"),
        (change(images="many"), r"CAM\.json is damaged \(invalid literal"),
        (change(metrics={"PxAP": float("nan")}), r"CAM\.json is damaged \(a figure is not finite\)"),
        (change(thresholds=[0.0]), r"CAM\.json is damaged \(curves and thresholds differ in length\)"),
        (
            change(histogram={"counts": [1], "source": "split"}),
            r"CAM\.json is damaged \(the histogram has not 256 bins",
        ),
        (change(curves=3), r"CAM\.json is damaged"),
        (change(curves=[[]]), r"CAM\.json is damaged"),
        (change(histogram={"counts": [2**64 - 1] * 256, "source": "split"}), r"CAM\.json is damaged"),
        (change(images=float("inf")), r"CAM\.json is damaged \(cannot convert float infinity to integer\)"),
        (damage("config.json", "[" * 10**6), r"config\.json is damaged \(it is nested too deeply\)"),
        (damage("evaluation/CAM.json", '{"a":' * 10**5), r"CAM\.json is damaged \(it is nested too deeply\)"),
        (
            damage("evaluation/CAM.json", f'{{"a": {"9" * 5000}}}'),
            r"CAM\.json is damaged \(it holds a number of 5000 dig",
        ),
        (change(images=1e999), r"CAM\.json is damaged"),
        (change(by_class={"\u00b2": {"images": 1}}), r"CAM\.json is damaged \(invalid literal"),
        (change(intervals_95={"PxAP": [1, float("inf")]}), r"CAM\.json is damaged \(a figure is not finite\)"),
        (change(thresholds=[1e999] * 100), r"CAM\.json is damaged \(a curve is no list of numbers\)"),
        (change(version=[9] * 999), r"CAM\.json is of version .{40} of the record"),
        (change(metrics=None), r"CAM\.json is damaged \(there is no 'metrics'\)"),
    ],
)
def test_what_is_missing_or_damaged_is_named_in_one_line(tmp_path, spoil, message):
    run = make_run(tmp_path / "run", {"CAM": {}})
    (run / "classifier").mkdir()
    spoil(run)
    with pytest.raises(InputError, match=message) as caught:
        read_run(run)
    assert "\n" not in str(caught.value)


def test_a_log_that_a_crash_cut_short_is_read_up_to_there(tmp_path):
    run = make_run(tmp_path / "run", {"CAM": {}})
    write_log(run, "classifier", [1.0, 2.0])
    with (run / "classifier" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "kind": "v')
    assert [epoch["MaxBoxAcc"] for epoch in read_run(run).history["classifier"].values()] == [1.0, 2.0]


def test_examples_that_cannot_be_used_are_left_out_and_named(tmp_path):
    run = make_run(tmp_path / "run", {"CAM": {}}, names=["a.jpg", "b.jpg", "c.jpg"])
    path = run / "evaluation" / "examples" / "CAM.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["{", lines[0].replace('"key": "', '"key": "../'), *lines[1:], "7"]) + "\n")
    examples, left_out = read_examples(run, ["CAM"])
    assert [one.image_id for one in examples] == ["b.jpg", "c.jpg"]
    assert [line.split(": ")[0] for line in left_out] == [f"{path}, line {number}" for number in (1, 2, 5)]


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("levels_file", None, r"CAM/\w+\.png: cannot be read: No such file or directory$"),
        ("levels_file", b"not a picture", r"CAM/\w+\.png: not an image$"),
        ("levels_file", "half", r"CAM/\w+\.png: cannot be read"),
        ("levels_file", np.zeros((3, 3), np.uint8), r"CAM/\w+\.png: has 3 x 3 pixels, the image 32 x 40$"),
        ("levels_file", np.zeros((32, 40, 3), np.uint8), r"CAM/\w+\.png: .*holds RGB pixels, not L"),
        ("mask_file", None, r"\.mask\.png: cannot be read: No such file or directory$"),
        ("image_file", b"", r"\.jpg: not an image$"),
    ],
)
def test_pixels_that_cannot_be_read_are_named_in_one_line(tmp_path, kind, data, message):
    run = make_run(tmp_path / "run", {"CAM": {}}, names=["a.jpg"])
    (one,), _ = read_examples(run, ["CAM"])
    path = getattr(one.findings[0] if kind == "levels_file" else one, kind)
    whole = path.read_bytes()
    path.unlink()
    if isinstance(data, np.ndarray):
        cv2.imwrite(str(path), data)
    elif data is not None:
        path.write_bytes(whole[: len(whole) // 2] if data == "half" else data)
    with pytest.raises(InputError, match=message) as caught:
        read_pixels(one)
    assert "\n" not in str(caught.value)


def test_classes_are_called_as_the_data_set_calls_them(tmp_path):
    """And never by the folder of an image, which a manifest may have for all of them."""
    make_run(tmp_path / "run", {"CAM": {}}, names=[f"photos/{i}.jpg" for i in range(4)])
    found = dataclasses.replace(evaluation(["photos/1.jpg"], {}), by_class={1: {"images": 1}, 2: {"images": 3}})
    save_record(tmp_path / "run" / "val", "CAM", found, images=1, split="val")
    save_names(tmp_path / "run", ["crow", "gull", ""])
    for folder, classes in ((tmp_path / "run", ["crow", "gull"]), (tmp_path / "run" / "val", ["crow"])):
        run = read_run(folder)
        assert run.class_names == ["crow", "gull", None]
        examples, _ = read_examples(folder, ["CAM"], run.class_names)
        assert sorted({one.class_name for one in examples}) == classes
        (rows,) = (list(grids(["CAM"], examples, 9).values()),)
        assert {row.class_name for grid in rows for row in grid} == set(classes)
    *_, by_class = details(configurations([run]))
    assert [row[4].text for row in by_class.rows] == ["gull", "class 2"]
