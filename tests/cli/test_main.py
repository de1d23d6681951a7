"""The program as it is called: mistakes that get one line, and whole runs on tiny data, of one process and of two."""

import json
import math
import pathlib
import re
import time

import jax
import PIL.Image
import pytest
from program import SMALL, in_this_process, program, words_of
from two_programs import ends, started_twice

from fcam_jax import main
from fcam_jax.errors import REQUEUE

pytestmark = pytest.mark.slow


def complaint(config, workdir, *options, **settings):
    """The one line that a call ends with."""
    return line_of(words_of(config, workdir, *options, **settings))


def line_of(words):
    """The one line that a call of the program ends with, in this process."""
    with in_this_process() as said, pytest.raises(SystemExit) as ended:
        main.main(words)
    line = ended.value.code
    assert line.startswith("error: ") and "\n" not in line
    assert said.getvalue() == ""
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        (
            "configs/synthetic.py",
            ["--config.classifier.epoch=3"],
            "unknown configuration key config.classifier.epoch: did you mean 'epochs'? known: epochs, from_run, ",
        ),
        ("configs/synthetic.py", ["--config.data.size=big"], "--config.data.size=big: it must be a whole number"),
        ("configs/nothing.py", [], "--config: no such benchmark file: 'configs/nothing.py'"),
        ("configs/sweeps/six_cams.py", [], "--config=configs/sweeps/six_cams.py: the file defines no get_config(args)"),
        ("", [], "--config: no such benchmark file: ''"),
        ("configs/cub50.py:tpu", [], "--config=configs/cub50.py:tpu: unknown config.model.encoder 'tpu'; known: "),
        ("configs/synthetic.py", ["--mode=test"], "argument --mode: invalid choice: 'test'"),
        ("configs/synthetic.py", ["--modus=eval"], "unknown option --modus, did you mean --mode?"),
        ("configs/synthetic.py", ["extra"], "unrecognized arguments: extra"),
    ],
)
def test_a_mistake_on_the_command_line_gets_one_line(tmp_path, config, options, words):
    assert complaint(config, tmp_path / "run", *options).startswith(words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--checkpoint=runs/cub"], "--checkpoint is for --mode=eval"),
        (["--mode=eval", "--checkpoint=nowhere"], "nowhere: no such folder"),
        (["--mode=eval", "--checkpoint=x", "--config.data.root=y"], "x: no such folder"),
    ],
)
def test_a_mistake_with_a_checkpoint_gets_one_line(options, words):
    assert line_of(options).startswith(words)


def test_a_misspelt_key_in_a_benchmark_file_gets_one_line(tmp_path):
    benchmark = tmp_path / "mine.py"
    benchmark.write_text(
        "from fcam_jax.configuration import defaults\ndef get_config():\n    c = defaults()\n"
        "    c.data.siz = 3\n    return c\n"
    )
    line = complaint(benchmark, tmp_path / "run")
    assert "siz" in line and 'Did you mean "size"' in line


def test_an_encoder_that_does_not_exist_gets_one_line(tmp_path):
    line = complaint("configs/synthetic.py", tmp_path / "run", model__encoder="vgg99")
    assert line.startswith("unknown config.model.encoder 'vgg99'; known: ") and ", mobilenet_v1_025, " in line
    assert not (tmp_path / "run").exists()


def test_data_that_is_not_there_gets_one_line(tmp_path):
    line = complaint("configs/cub.py", tmp_path / "run", data__root=tmp_path / "CUB")
    assert line.startswith(f"{tmp_path / 'CUB'}: no such folder; data.root must be")
    assert not (tmp_path / "run").exists()


def spoil(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_label_outside_its_range_gets_one_line(bird_folder, tmp_path):
    labels = bird_folder / "metadata" / "train" / "class_labels.txt"
    spoil(labels, "class2/train5.jpg,2", "class2/train5.jpg,200")
    line = complaint("configs/cub.py", tmp_path / "run", data__root=bird_folder)
    assert line == f"{labels}, line 6: label must be in [0, 200), by data.num_classes: 'class2/train5.jpg,200'"


def test_a_box_outside_its_image_gets_one_line(bird_folder, tmp_path):
    boxes = bird_folder / "metadata" / "test" / "localization.txt"
    boxes.write_text("\n".join([*boxes.read_text().splitlines()[:-1], "class0/test3.jpg,1,1,41,32"]))
    line = complaint("configs/cub.py", tmp_path / "run", data__root=bird_folder)
    assert line.startswith(f"{boxes}, line 4: box must have ") and line.endswith("'class0/test3.jpg,1,1,41,32'")


def finished(done):
    """A call of a process of its own that has ended well."""
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done


def printed(*words):
    """What a call prints that ends well, in this process."""
    with in_this_process() as said:
        assert main.main(words) == 0
    return said.getvalue()


def contents(folder, pattern):
    return {path: path.read_bytes() for path in folder.rglob(pattern)}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# Ten images to be tested are no multiple of two processes' batches.
WHOLE = SMALL | {"log_steps": 1, "data.synthetic.test": 10, "fcam.pictures_epochs": 5, "evaluation.pictures": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of one process, the call that has made it, its results, and the names of what it has left."""
    folder = tmp_path_factory.mktemp("whole")
    words = words_of("configs/synthetic.py", folder, **WHOLE)
    first = finished(program("fcam_jax.main", *words, devices=jax.device_count()))  # as many as this process has
    return folder, first, json.loads((folder / "results.json").read_text()), {path.name for path in folder.iterdir()}


def test_a_run_from_its_first_to_its_last_call(whole):
    folder, first, results, _ = whole
    words = words_of("configs/synthetic.py", folder, **WHOLE)
    assert results["images"] == 10 and results["methods"].keys() == {"Center", "CAM", "F-CAM, no threshold", "F-CAM"}
    told, _, warned = first.stdout.partition("\n\n")
    table = [re.split(r"\s{2,}", line) for line in told.splitlines()]
    assert warned.startswith("warning: F-CAM is not surely better than CAM: ") is not results["gain"]["better"]
    assert [row[0] for row in table] == ["test, percent", *results["methods"], "gain"]
    assert table[4][1] == f"{results['methods']['F-CAM']['MaxBoxAcc']:.1f}"
    assert json.loads((folder / "config.json").read_text())["data"]["size"] == 32
    for stage in ("classifier", "fcam"):
        log = rows(folder / stage / "metrics.jsonl")
        kinds = ["val", "train", "train", "train", "val"]
        assert [(row["step"], row["kind"]) for row in log] == list(zip((0, 1, 2, 3, 3), kinds, strict=True))
        assert all(math.isfinite(row["loss"]) and row["steps_per_second"] > 0 for row in log[1:4])
        assert list((folder / stage).glob("events.out.tfevents.*"))
    for name in ("test_grid.png", "box_accuracy.png"):
        with PIL.Image.open(folder / "pictures" / name) as picture:
            assert picture.format == "PNG"

    trained = contents(folder, "metrics.jsonl") | contents(folder / "fcam" / "checkpoints", "*METADATA")
    for options in ([], ["--mode=eval"]):
        (folder / "results.json").unlink()
        assert printed(*words, *options) == first.stdout
        same = json.loads((folder / "results.json").read_text())
        # The files of the program may change while the tests run.
        changing = {"evaluation_seconds": 0, "program": {}}
        assert same | changing == results | changing
    assert contents(folder, "metrics.jsonl") | contents(folder / "fcam" / "checkpoints", "*METADATA") == trained

    alone = printed("--mode=eval", f"--checkpoint={folder}")
    assert alone.splitlines()[-1].split() == table[4][0].split() + table[4][1:]

    page = printed("--mode=report", f"--workdir={folder}").strip()
    assert page == str(folder / "report" / "index.html") and "F-CAM" in pathlib.Path(page).read_text()

    line = complaint("configs/synthetic.py", folder, **WHOLE | {"seed": 1})
    assert "holds a run of another configuration (seed: 0 there, 1 now)" in line


def run_together(folder):
    """Run two processes of which one is asked to stop, and the same two again; returns what these say."""
    words = "-m", "fcam_jax.main", *words_of("configs/synthetic.py", folder, **WHOLE)
    started = started_twice(*words)
    saved = folder / "fcam" / "checkpoints" / "latest"
    while all(process.poll() is None for process in started) and not (saved / "0").is_dir():
        time.sleep(0.02)
    started[1].terminate()
    said = ends(started)
    assert [status for status, *_ in said] == [REQUEUE] * 2, said
    assert not (folder / "results.json").exists()
    return ends(started_twice(*words))


def logged(folder, stage):
    """The figures of a stage that do not depend on the machine."""
    lines = rows(folder / stage / "metrics.jsonl")
    return [{key: value for key, value in line.items() if "wait" not in key and "second" not in key} for line in lines]


def check_same_figures(expected, found):
    """Compare the figures of two logs but for rounding."""
    for one, other in zip(expected, found, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            # PxAP counts 8,192 pixels at ten thresholds: one that rounding takes over one of these is .01 percent.
            near = 0.02 if key == "PxAP" else 1e-5
            assert other[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=near)), key


def test_two_processes_are_the_run_of_one_and_the_first_speaks(whole, tmp_path):
    alone, _, results, names = whole
    (status, out, _), (other_status, silent, quiet) = run_together(tmp_path)
    assert (status, other_status) == (0, 0)
    # XLA's Gloo tells of its connections on the standard output, too.
    assert "test, percent" in out and "percent" not in silent and quiet == ""
    for stage, lines in (("classifier", 3 + 2), ("fcam", 3 + 2)):
        expected = logged(alone, stage)
        assert len(expected) == lines
        check_same_figures(expected, logged(tmp_path, stage))
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["images"] == results["images"] == 10
    for row, figures in results["methods"].items():
        assert found["methods"][row] == pytest.approx(figures, abs=0.5), row
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_report_needs_runs_and_a_training_has_one_folder(tmp_path):
    line = complaint("configs/synthetic.py", tmp_path, "--mode=report")
    assert line.startswith(f"{tmp_path} holds no run")
    line = complaint("configs/synthetic.py", tmp_path / "a", f"--workdir={tmp_path / 'b'}", **SMALL)
    assert line.startswith("--workdir: a run has one folder")


@pytest.mark.long
def test_a_truncated_image_is_named_and_the_run_goes_on_once_it_is_mended(bird_folder, tmp_path, caplog):
    settings = {key: value for key, value in SMALL.items() if not key.startswith("data.synthetic")} | {
        "data.source": "folder",
        "data.root": bird_folder,
        "data.num_classes": 3,
        "data.batch_size": 4,
        "evaluation.batch_size": 4,
    }
    victim = bird_folder / "images" / "class1" / "train4.jpg"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    line = complaint("configs/synthetic.py", tmp_path / "run", **settings)
    assert line.startswith(f"{victim}: damaged: Premature end of JPEG file")
    victim.write_bytes(whole)
    with caplog.at_level("INFO"):
        printed(*words_of("configs/synthetic.py", tmp_path / "run", **settings))
    assert "classifier: going on from step " in caplog.text
    assert json.loads((tmp_path / "run" / "results.json").read_text())["images"] == 4
