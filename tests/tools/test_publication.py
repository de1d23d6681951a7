"""Runs to data, data to blocks of pages and plots; every figure is one that was put into the runs."""

import json

import numpy as np
import pytest
from made_runs import ids, make_run, write_results
from PIL import Image

from fcam_jax.cli import command
from fcam_jax.errors import InputError
from fcam_jax.runs.report.aggregate import configurations
from tools import publish
from tools.publication.blocks import BLOCKS, block
from tools.publication.collect import collect, fields
from tools.publication.data import data_text, read_published
from tools.publication.pages import filled

VAL = {"MaxBoxAcc": 61.0, "MaxBoxAcc_threshold": 0.36}
MACHINE = {"platform": "cpu", "devices": {"cpu": 1}, "cpu": "a processor", "cores": 2, "jax": "1.2", "python": "3.11"}
PROGRAM = {"version": "0.9", "commit": "0123456789abcdef", "modified": True}
WITHOUT = {"fcam__loss__crf__weight": 0.0, "fcam__loss__size__weight": 0.0}


def log(folder, stage, lines):
    (folder / stage).mkdir()
    (folder / stage / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def made(folder, cam, fcam=None, names=(), **values):
    """A run that has found CAM and F-CAM, or CAM alone, with these MaxBoxAcc."""
    rows = {"Center": {"MaxBoxAcc": 55.0}, "CAM": {"MaxBoxAcc": cam, "threshold_at_val": 0.36, "BoxAcc_at_val": 57.25}}
    if fcam is not None:
        rows["F-CAM"] = {"MaxBoxAcc": fcam, "MaxBoxAccV2": fcam - 10, "top1_loc": fcam / 2}
    make_run(folder, rows, names=list(names), **values)
    write_results(folder, {row: VAL for row in rows if row != "Center"}, evaluation_seconds=20.5)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs as a sweep leaves them: three seeds of CAM, two of the ablation, another CAM, classifiers alone."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, (cam, fcam) in enumerate(((60.0, 80.0), (61.0, 83.0), (62.0, 83.0))):
        made(folder / f"cam-s{seed}", cam, fcam, ids(20) if seed == 0 else (), seed=seed, last_stage="fcam")
        made(folder / f"alone-s{seed}", cam, seed=seed, last_stage="classifier")
        if seed < 2:
            made(folder / f"sr-s{seed}", cam, 70.0 + seed, seed=seed, last_stage="fcam", **WITHOUT)
    made(folder / "layer", 65.0, 79.0, cam__name="layercam", last_stage="fcam")
    made(folder / "imagenet", 40.0, classifier={"method": "pretrained"}, last_stage="classifier")
    (folder / "imagenet" / "evaluation" / "CAM.json").rename(folder / "imagenet" / "evaluation" / "ImageNet CAM.json")
    record = folder / "imagenet" / "evaluation" / "ImageNet CAM.json"
    record.write_text(record.read_text().replace('"row": "CAM"', '"row": "ImageNet CAM"'))
    write_results(folder / "imagenet", {"ImageNet CAM": {}})
    facts = {"program": PROGRAM, "machine": MACHINE, "evaluation_seconds": 20.5}
    write_results(folder / "cam-s0", {"CAM": VAL, "F-CAM": VAL | {"MaxBoxAcc": 84.5}}, **facts)
    results = json.loads((folder / "cam-s0" / "results.json").read_text())
    results["checkpoints"]["CAM"]["taken_from"] = "alone-s0"
    (folder / "cam-s0" / "results.json").write_text(json.dumps(results))
    lines = [{"step": 0, "kind": "val", "MaxBoxAcc": 1.0}]
    lines += [{"step": step, "kind": "train", "steps_per_second": rate} for step, rate in ((10, 0.5), (20, 2), (25, 1))]
    log(folder / "cam-s0", "fcam", lines)
    (folder / "report").mkdir()
    make_run(folder / "unfinished", names=[])
    return folder


@pytest.fixture(scope="module")
def data_file(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "results" / "some.json"
    command.main(["publish", f"--workdir={runs}", f"--data={path}", "--examples-of=cam-s0"])
    return path


@pytest.fixture(scope="module")
def data(data_file):
    return read_published(data_file)


def lines(data, name):
    """The rows of a block by what is in their first column."""
    table = [line for line in block(name, data).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    return {row[0]: row[1:] for row in (cells[0], *cells[2:])}


@pytest.mark.slow
def test_the_data_say_what_the_runs_say(runs, data):
    collected = collect([runs])
    assert [run.folder.name for run in data.runs] == [run.folder.name for run in collected.runs]
    assert [folder.name for folder in collected.left_out] == ["unfinished"]
    for ours, theirs in zip(data.runs, collected.runs, strict=True):
        assert ours.config == theirs.config
        for one, other in zip(ours.records, theirs.records, strict=True):
            assert (one.row, one.split, one.images) == (other.row, other.split, other.images)
            assert {name: one.figures[name] for name in other.figures} == pytest.approx(other.figures, abs=1e-3)
            np.testing.assert_allclose(one.thresholds, other.thresholds, atol=1e-9)
            np.testing.assert_allclose(one.curves["MaxBoxAcc"], other.curves["MaxBoxAcc"], atol=0.005)
            shares = [h / max(h.sum(), 1) for h in (one.histogram, other.histogram)]
            np.testing.assert_allclose(*shares, rtol=2e-3, atol=1e-9)
    found = [[[run.folder.name for run in one.runs] for one in configurations(r)] for r in (data.runs, collected.runs)]
    assert found[0] == found[1]


def test_derived_figures_are_those_of_the_whole_curve(data):
    # 100 exp(-((t - 0.4) / 0.2)^2) is 95 where t is 0.4 ± 0.2 sqrt(-ln 0.95).
    width = 0.4 * np.sqrt(-np.log(0.95))
    assert data.runs[0].records[0].figures["plateau_width"] == pytest.approx(width, abs=1e-3)


def test_the_file_is_compact_and_says_each_row_once(runs, data_file):
    text = data_file.read_text()
    raw = json.loads(text)
    assert text == data_text(raw)
    assert raw["runs"]["cam-s1"]["config"] == {"seed": 1, "last_stage": "fcam"}
    assert raw["runs"]["cam-s1"]["rows"]["CAM"] == {"same_as": "alone-s1"}
    assert raw["runs"]["cam-s0"]["seconds"] == {"fcam": 10 / 0.5 + 10 / 2 + 5 / 1, "evaluation": 20.5}
    assert raw["examples_of"] == "cam-s0"
    assert all(len(line) < 3000 for line in text.splitlines())


def test_curves_of_fine_thresholds_are_thinned_after_figures_were_derived(tmp_path):
    run = made(tmp_path / "a", 50.0, 70.0)
    path = run / "evaluation" / "F-CAM.json"
    record = json.loads(path.read_text())
    taus = np.arange(0, 1, 0.001)
    record["thresholds"] = taus.tolist()
    record["curves"] = {"MaxBoxAcc": (80 * np.clip(1 - np.abs(taus - 0.433) / 0.1, 0, 1)).tolist()}
    record["intervals_95"] = {"MaxBoxAcc": [68.0, 72.12345]}
    path.write_text(json.dumps(record))
    out = fields(collect([run]), None)["runs"]["a"]["rows"]["F-CAM"]
    assert out["thresholds"] == [0, 0.01, 100] and len(out["curve"]) == 100
    assert out["curve"][43] == pytest.approx(80 * 0.97) and out["derived"]["plateau_width"] == 0.0125
    assert out["figures"]["MaxBoxAcc"] == [70.0, 68.0, 72.123]


def test_a_configuration_that_lacks_a_key_comes_back_without_it(tmp_path):
    made(tmp_path / "a", 50.0, model={"encoder": "resnet50", "head": {"name": "gap"}})
    made(tmp_path / "b", 50.0, cam__name="layercam", cam__stages=[1, 2])
    out = fields(collect([tmp_path]), None)
    assert out["runs"]["b"]["lacks"] == ["model.head.name"] and "lacks" not in out["runs"]["a"]
    (tmp_path / "out.json").write_text(data_text(out))
    first, second = read_published(tmp_path / "out.json").runs
    assert second.config["model"] == {"encoder": "resnet50", "head": {}}
    assert second.config["cam"] == {"name": "layercam", "stages": [1, 2]} and first.config["cam"] == {"name": "cam"}


def test_main_has_cams_with_fcam_on_them_beside_the_papers(data):
    rows = lines(data, "main")
    assert list(rows) == ["map", "Center", "ImageNet CAM", "CAM", "LayerCAM", "mean of these 2 CAMs"]
    assert rows["Center"] == ["55.0 ± 0.0 (3)", "-", "-", "-", "-", "59.7", "-", "-"]
    assert rows["ImageNet CAM"] == ["40.0"] + 7 * ["-"]
    # Gains 20, 22, 21; F-CAM 80, 83, 83: mean 82, squared distances 4 + 1 + 1, over 2.
    assert rows["CAM"][:4] == ["61.0 ± 1.0 (3)", "82.0 ± 1.7 (3)", "+21.0 ± 1.0 (3)", "72.0 ± 1.7 (3)"]
    assert rows["CAM"][4:] == ["41.0 ± 0.9 (3)", "71.5", "90.3", "+18.8"]
    assert rows["LayerCAM"] == ["65.0", "79.0", "+14.0", "69.0", "39.5", "85.2", "92.4", "+7.2"]
    assert rows["mean of these 2 CAMs"][:3] == ["63.0", "80.5", "+17.5"]
    assert rows["mean of these 2 CAMs"][5:] == ["78.3", "91.3", "+13.0"]  # 78.35, 91.35


def test_terms_are_compared_by_seed(data):
    rows = lines(data, "terms")
    assert list(rows) == ["map", "CAM", "+ seeds", "+ sizes"]
    assert rows["CAM"] == ["61.0 ± 1.0 (3)", "-", "61.6", "58.8", "71.5"]
    assert rows["+ seeds"] == ["70.5 ± 0.7 (2)", "+10.0, +10.0", "84.2", "73.0", "82.2"]
    assert rows["+ sizes"] == ["82.0 ± 1.7 (3)", "+10.0, +12.0", "87.3", "82.0", "90.3"]


def test_the_other_blocks(data):
    assert set(BLOCKS) >= {"plateau", "activations", "sizes", "time", "runs", "provenance"}
    assert lines(data, "plateau")["LayerCAM"] == ["0.40", "0.09", "0.40", "0.09", "1.0", "79.0", "-"]
    assert lines(data, "activations")["F-CAM on LayerCAM"] == ["0.0", "0.0", "no"]
    assert lines(data, "activations")["F-CAM on CAM"][2] == "1 of 3"  # the run with examples
    run = lines(data, "runs")
    assert run["run"][0] == "differs from alone-s0 in"
    assert run["cam-s0"] == ["last\\_stage=fcam", "0", "F-CAM", "40", "84.5", "80.0", "-", "-", "-"]
    assert run["alone-s1"][2:] == ["CAM", "40", "61.0", "61.0", "-", "0.360", "57.2"]
    time = lines(data, "time")
    assert time["run"] == ["machine", "classifier", "fcam", "evaluation", "sum"]
    assert time["cam-s0"][1:] == ["of alone-s0", "30", "20", "50"]
    text = block("provenance", data)
    assert "fcam\\_jax 0.9, commit 0123456789ab, with changes: cam-s0 |" in text
    assert "2 cores of a processor, jax 1.2, Python 3.11: cam-s0 |" in text and "not recorded: alone-s0, " in text
    assert "500 of the split test" in text and "hash of alone-s0 of alone-s0" in text


@pytest.mark.slow
def test_another_size_of_the_tested_images_is_told(tmp_path):
    run = made(tmp_path / "a", 50.0, 70.0, data__size=224, data__test_size=320)
    command.main(["publish", f"--workdir={run}", f"--data={tmp_path / 'd.json'}"])
    assert "crops of 224 pixels, tested at 320" in block("provenance", read_published(tmp_path / "d.json"))


@pytest.mark.slow
def test_sizes_are_given_by_row(tmp_path):
    run = made(tmp_path / "a", 50.0, 70.0)
    path = run / "evaluation" / "F-CAM.json"
    record = json.loads(path.read_text())
    record["by_size"] = {"below 10 %": {"images": 37, "BoxAcc_at_best": 12.5}, "60 % and more": {"images": 1200}}
    path.write_text(json.dumps(record))
    command.main(["publish", f"--workdir={run}", f"--data={tmp_path / 'd.json'}"])
    rows = lines(read_published(tmp_path / "d.json"), "sizes")
    assert rows["map"] == ["below 10 % (37 images)", "60 % and more (1,200 images)"]
    assert rows["F-CAM on CAM"] == ["12.5", "-"] and rows["CAM"] == ["-", "-"]


@pytest.mark.slow
def test_two_configurations_of_one_cam_are_told_apart(tmp_path):
    for fraction in (0.3, 0.5):
        made(tmp_path / "w" / str(fraction), 50.0, 70.0, fcam__seeds__background_fraction=fraction)
    command.main(["publish", f"--workdir={tmp_path / 'w'}", f"--data={tmp_path / 'd.json'}"])
    rows = lines(read_published(tmp_path / "d.json"), "main")
    assert "CAM, resnet50, seeds.background\\_fraction=0.5" in rows and len(rows) == 5


@pytest.mark.slow
def test_plots_and_grids_lie_beside_the_data(data_file):
    there = {path.name: path for path in data_file.parent.iterdir()}
    plots = {f"some-{name}.png" for name in ("box_accuracy", "activations")}
    assert set(there) == {"some.json", *plots, "some-found.jpg", "some-missed.jpg"}
    for name in ("some-found.jpg", "some-missed.jpg"):
        with Image.open(there[name]) as picture:
            assert picture.format == "JPEG" and picture.width == 128 + 5 * 166 and picture.height > 300
    before = {name: path.read_bytes() for name, path in there.items()}
    command.main(["publish", f"--data={data_file}"])
    assert {path.name: path.read_bytes() for path in data_file.parent.iterdir()} == before


PAGE = (
    "# By hand ±\r\n\n<!-- publish: some main -->\nold\n<!-- /publish -->\n tail\x0b \n    <!-- publish: example -->\n"
    "<!-- publish: other main -->\nof others\n<!-- /publish -->\n"
)


@pytest.mark.slow
def test_blocks_are_filled_and_all_else_stays(data_file, data, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_bytes(PAGE.encode())
    command.main(["publish", f"--data={data_file}", f"--page={page}"])
    text = page.read_bytes().decode()
    begin, end = PAGE.split("old\n")
    assert text == f"{begin}\n{block('main', data)}\n{end}"
    before = page.stat().st_mtime_ns
    command.main(["publish", f"--data={data_file}", f"--page={page}"])
    assert page.read_bytes().decode() == text and page.stat().st_mtime_ns == before
    assert capsys.readouterr().out.splitlines()[-1] == f"{page} is as it was"


def test_a_page_with_other_line_ends_keeps_them():
    text = filled("<!-- publish: d a -->\r\n<!-- /publish -->\r\n", "p.md", "d", ["a"], lambda name: "1\n2\n")
    assert text == "<!-- publish: d a -->\r\n\r\n1\r\n2\r\n\r\n<!-- /publish -->\r\n"


@pytest.mark.slow
def test_blocks_are_printed_where_there_is_no_page(data_file, data, tmp_path, capsys):
    command.main(["publish", f"--data={data_file}"])
    text = capsys.readouterr().out
    assert all(f"<!-- publish: some {name} -->\n\n{block(name, data)}" in text for name in BLOCKS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\n<!-- publish: some mian -->\n<!-- /publish -->",
            "line 2: no block is called 'mian'; there: main, ",
        ),
        ("<!-- publish: some main -->\n", "line 1: block 'main' is not closed; end it with <!-- /publish -->"),
        (
            "<!-- publish: some main -->\n<!-- publish: some main -->\n<!-- /publish -->",
            "line 1: block 'main' is not closed",
        ),
        ("\n\n<!-- /publish -->", "line 3: <!-- /publish --> closes no block"),
    ],
)
def test_a_page_with_a_mistake_is_named_and_none_is_changed(data_file, tmp_path, text, message):
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_bytes(PAGE.encode())
    bad.write_text(text)
    options = command.parsed(
        "fcam publish", "", publish.options, [f"--data={data_file}", f"--page={good}", f"--page={bad}"]
    )
    with pytest.raises(InputError) as raised:
        publish.run(options)
    assert str(raised.value).startswith(f"{bad}, {message}") and "\n" not in str(raised.value)
    assert good.read_bytes() == PAGE.encode() and bad.read_text() == text


def damaged(change):
    def write(data_file, path):
        raw = json.loads(data_file.read_text())
        change(raw)
        path.write_text(json.dumps(raw))

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda data_file, path: path.write_text("{"), "is damaged (Expecting property name"),
        (lambda data_file, path: path.write_text("[]"), "is damaged (it holds no JSON object)"),
        (damaged(lambda raw: raw.update(version=0)), "is of version 0 of the data, not 1"),
        (damaged(lambda raw: raw.pop("config")), "is damaged (there is no 'config')"),
        (damaged(lambda raw: raw.update(runs={})), "is damaged (it holds no run)"),
        (
            damaged(lambda raw: raw["runs"]["cam-s1"]["rows"].update(CAM={"same_as": "x"})),
            "is damaged (there is no 'x')",
        ),
        (damaged(lambda raw: raw["runs"]["layer"]["rows"]["F-CAM"]["curve"].pop()), "is damaged (the curve of F-CAM"),
    ],
)
def test_damaged_data_are_one_line(data_file, tmp_path, write, message):
    path = tmp_path / "bad.json"
    write(data_file, path)
    with pytest.raises(SystemExit) as ended:
        command.main(["publish", f"--data={path}"])
    text = str(ended.value.code)
    assert text.startswith(f"error: {path} {message}") and text.count("\n") == 0 and "collect it again" in text


def test_folders_that_cannot_be_published_are_one_line(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    made(tmp_path / "again" / "layer", 1.0)
    out = f"--data={tmp_path / 'out.json'}"
    for options, message in (
        ((f"--workdir={tmp_path / 'empty'}",), "empty holds no run: there is no config.json"),
        ((f"--workdir={runs / 'unfinished'}",), "unfinished was evaluated; train them, or --mode=eval"),
        ((f"--workdir={runs}", f"--workdir={tmp_path / 'again'}"), "two runs are called layer: "),
        ((f"--workdir={runs}", "--examples-of=x"), "--examples-of=x: no evaluated run is called so; there: alone-s0, "),
        (("--examples-of=x",), "--examples-of needs the runs; add --workdir=DIR"),
        (("--data=page.md",), "--data=page.md: results are a .json file"),
    ):
        with pytest.raises(SystemExit) as ended:
            command.main(["publish", out, *options])
        text = str(ended.value.code)
        assert text.startswith("error: ") and message in text and "\n" not in text
    assert not (tmp_path / "out.json").exists()


def test_files_are_published_by_their_names_not_their_paths(tmp_path):
    made(tmp_path / "a", 60.0, data__root="/home/me/CUB", model__init="../weights/net.pth")
    given = fields(collect([tmp_path]), None)
    assert (given["config"]["data"]["root"], given["config"]["model"]["init"]) == ("CUB", "net.pth")
    assert "/home/me" not in data_text(given) and "weights" not in data_text(given)
