"""The report as a whole: its files, what they hold, and mistakes that get one line."""

import json
import re

import numpy as np
import pytest
from made_runs import ids, make_run, write_log, write_results
from PIL import Image

from fcam_jax.errors import InputError
from fcam_jax.runs.report.report import write_report

HOSTILE = ["<script>alert(1)</script>.jpg", "]]>&lt;<!--.jpg"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def summary(page):
    """What the page's programs are given."""
    text = page.read_text()
    return json.loads(re.search(r'id="summary">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page on one run, with names of a method and of images that could be taken for markup."""
    folder = tmp_path_factory.mktemp("report")
    rows = {
        "CAM": {"MaxBoxAcc": 50.0, "PxAP": 40.0},
        "Center": {"MaxBoxAcc": 40.0, "PxAP": 30.0},
        "F-CAM": {"MaxBoxAcc": 75.0, "PxAP": 60.0},
        "</script><b>": {"PxAP": 1.0},
    }
    run = make_run(folder / "run", rows, names=[*HOSTILE, *ids(18)])
    write_log(run, "classifier", [10.0, 40.0, 30.0])
    write_log(run, "fcam", [20.0, 70.0])
    return write_report([run], folder / "out")


@pytest.mark.slow
def test_one_run_gives_tables_figures_grids_and_a_page(page):
    out = page.parent
    assert page.name == "index.html" and names(out) == ["figures", "index.html", "tables.md"]
    plots = ["1-activations", "1-box_accuracy", "1-convergence-classifier", "1-convergence-fcam", "1-precision_recall"]
    plots.append("scale_simulation-1")
    grids = ["1-found.png", "1-missed.png"]
    drawn = [f"{name}.{kind}" for name in plots for kind in ("png", "svg", "pdf")]
    assert names(out / "figures") == sorted(drawn + grids)
    for path in (out / "figures").glob("*.png"):
        with Image.open(path) as picture:
            colours = np.ptp(np.asarray(picture.convert("RGB")).astype(int), axis=-1)
        assert (colours > 80).sum() > 300, f"{path} has axes alone"
    text = (out / "tables.md").read_text()
    assert "| Center | 1 | CUB |" in text and "Table 1 of the paper, MaxBoxAcc, percent" in text
    shown = summary(page)
    assert shown["about"] == "1 run of 1 configuration, 20 examples" and shown["leftOut"] == []
    (one,) = shown["runs"]
    assert one["methods"] == ["Center", "CAM", "</script><b>", "F-CAM"] and one["main"] == [1, 3]
    assert len(one["examples"]) == 20
    captions = [figure["caption"] for group in shown["figures"] for figure in group["figures"]]
    assert any("perfect maps of 20 examples" in caption for caption in captions)


@pytest.mark.slow
def test_seeds_and_sweeps_are_brought_together(tmp_path):
    runs = [
        make_run(tmp_path / f"{fraction}-{seed}", seed=seed, fcam__seeds__background_fraction=fraction)
        for fraction in (0.3, 0.5)
        for seed in (0, 1)
    ]
    page = write_report([*runs, runs[0]], tmp_path / "out")
    shown = summary(page)
    assert shown["about"] == "4 runs of 2 configurations, 16 examples"
    assert "background_fraction-1.svg" in names(tmp_path / "out" / "figures")
    results = shown["tables"][0]
    seeds = results["columns"].index("seeds")
    assert [row[seeds]["text"] for row in results["rows"]] == ["0, 1"] * 4
    # The same images in every run are stored once.
    assert page.read_text().count("/9j/") == 4


@pytest.mark.slow
def test_data_without_masks_and_without_boxes(tmp_path):
    boxes = make_run(tmp_path / "boxes", mask=False, data__name="boxes")
    masks = make_run(tmp_path / "masks", {"CAM": {"PxAP": 50.0}}, boxes=False, data__name="masks", names=ids(3))
    shown = summary(write_report([boxes, masks], tmp_path / "out"))
    captions = {figure["caption"] for group in shown["figures"] for figure in group["figures"]}
    assert any("boxes, reduced" in caption and "filled boxes stand for masks" in caption for caption in captions)
    assert any("masks, reduced" in caption and "filled" not in caption for caption in captions)
    assert "1-precision_recall.svg" not in names(tmp_path / "out" / "figures")
    assert "2-box_accuracy.svg" not in names(tmp_path / "out" / "figures")
    (example, *_) = shown["runs"][1]["examples"]
    assert example["boxes"] is None and example["masked"] and 0 <= example["findings"][0]["iou"] <= 1


@pytest.mark.slow
def test_a_run_without_examples_has_a_page_too(tmp_path):
    page = write_report([make_run(tmp_path / "run", names=[])], tmp_path / "out")
    assert summary(page)["runs"] == []


@pytest.mark.slow
def test_a_bad_example_is_left_out_and_listed(tmp_path, caplog):
    run = make_run(tmp_path / "run", names=["a.jpg", "b.jpg", "c.jpg"])
    bad = sorted((run / "evaluation" / "examples" / "CAM").glob("*.png"))[0]
    bad.write_bytes(b"nothing")
    page = write_report([run], tmp_path / "out")
    shown = summary(page)
    assert len(shown["runs"][0]["examples"]) == 2
    (line,) = shown["leftOut"]
    assert line.startswith(f"{bad.resolve()}: not an image")
    assert line in (tmp_path / "out" / "tables.md").read_text() and line in caplog.text


@pytest.mark.slow
def test_marks_of_a_training_stand_with_the_results(tmp_path):
    run = make_run(tmp_path / "run")
    write_results(run, {"CAM": {}, "F-CAM": {}}, marks={"F-CAM": {"flooded": "foreground 99 %"}})
    page = write_report([run], tmp_path / "out")
    line = "run: the training of F-CAM ended with the mark 'flooded': foreground 99 %"
    assert summary(page)["unsound"] == [line] and line in (tmp_path / "out" / "tables.md").read_text()


def test_names_enter_the_page_as_data(page):
    text = page.read_text()
    elements = re.findall(r"<(/?\w+)", text)
    assert elements.count("script") == elements.count("/script") == 2 + 2  # data and program, two blocks of pixels
    assert "b" not in elements and "alert(1)</script>" not in text and "]]>&lt;<!--" not in text
    (one,) = summary(page)["runs"]
    assert [example["id"] for example in one["examples"]][:2] == HOSTILE


def test_the_page_has_no_address_of_another_file(page):
    text = page.read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", text)
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttpRequest", text)
    assert "default-src 'none'" in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "a report needs the folder of at least one run"),
        (["nothing"], r"nothing holds no run: there is no .*config\.json"),
        (["run", "empty"], r"empty has no evaluation record"),
    ],
)
def test_folders_that_cannot_be_reported_get_one_line(tmp_path, given, message):
    make_run(tmp_path / "run")
    make_run(tmp_path / "empty", {"CAM": {}})
    (tmp_path / "empty" / "evaluation" / "CAM.json").unlink()
    with pytest.raises(InputError, match=message):
        write_report([tmp_path / name for name in given], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to_gets_one_line(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"--out=.*out cannot be written to: .*"):
        write_report([make_run(tmp_path / "run")], tmp_path / "out")
