"""Weights out of a run and back into another one: the same figures without a step of training."""

import json
import shutil

import pytest
from safetensors.numpy import load_file
from staged import evaluate_stages, train_stages

from configs import synthetic
from fcam_jax.cli import command
from fcam_jax.configuration import override
from fcam_jax.errors import InputError
from fcam_jax.runs import build
from fcam_jax.runs import folder as workdir
from fcam_jax.runs.class_names import CLASS_NAMES, names_of_run
from fcam_jax.runs.prediction.network import trained_network

pytestmark = pytest.mark.slow

SMALL = {
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 16,
    "data.synthetic.val": 4,
    "data.synthetic.test": 6,
    "model.decoder_widths": (8, 8, 4, 4),
    "classifier.epochs": 1,
    "fcam.epochs": 0,
    "fcam.pictures_epochs": 0,
    "evaluation.batch_size": 4,
    "evaluation.pictures": 2,
    "evaluation.examples": 2,
    "evaluation.threshold_step": 0.01,
    "validation.threshold_step": 0.1,
}


def train(folder, **values):
    """Train as the program does; returns what was planned, and the hash of its configuration."""
    config = synthetic.get_config()
    override(config, SMALL | {name.replace("__", "."): value for name, value in values.items()})
    plan = build.experiment(config)
    config_hash = workdir.claim(folder, config.to_dict())
    train_stages(plan, folder)
    return plan, config_hash


def run(folder, **values):
    """Train and evaluate as the program does; returns the results."""
    plan, config_hash = train(folder, **values)
    evaluate_stages(plan, folder, config_hash)
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run(folder)


def test_an_export_has_the_names_of_the_classes_beside_it(first, tmp_path):
    folder = shutil.copytree(first[0], tmp_path / "run")
    (folder / CLASS_NAMES).write_text("a\n\nc\n")
    command.main(["export", f"--workdir={folder}", f"--out={tmp_path / 'weights'}"])
    assert names_of_run(tmp_path / "weights") == ["a", None, "c"]


def test_a_run_that_starts_from_an_export_has_its_figures_before_the_first_step(first, tmp_path, capsys):
    folder, results = first
    command.main(["export", f"--workdir={folder}", f"--out={tmp_path / 'weights'}"])
    files = [tmp_path / "weights" / f"{part}.safetensors" for part in ("classifier", "decoder")]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    assert {"stem.conv.weight", "fc.bias"} <= load_file(files[0]).keys()
    assert "segmentation_head.0.weight" in load_file(files[1])

    again = run(
        tmp_path / "again",
        seed=1,  # other weights, if they were not those of the export
        classifier__epochs=0,
        model__init=str(tmp_path / "weights"),
        model__init_head="keep",
        fcam__init=str(tmp_path / "weights"),
    )
    assert again["methods"] == results["methods"]
    assert results["pretrained"] == {}
    assert again["pretrained"]["CAM"]["head"] == "kept"
    assert {row: list(record["files"]) for row, record in again["pretrained"].items()} == {
        "CAM": [str(files[0])],
        "F-CAM": [str(files[1])],
    }


@pytest.mark.parametrize("widths", [(8, 8, 4, 2), None])
def test_a_decoder_that_does_not_fit_or_is_not_there_is_told_before_the_classifier_is_trained(first, tmp_path, widths):
    weights = tmp_path / "weights"
    if widths:
        command.main(["export", f"--workdir={first[0]}", f"--out={weights}"])
    with pytest.raises(InputError, match="does not fit this network" if widths else "No such file"):
        train(tmp_path / "run", fcam__init=str(weights), **({"model__decoder_widths": widths} if widths else {}))
    assert not list((tmp_path / "run").glob("classifier/checkpoints/*/*"))  # not even the untrained model is saved
    train(tmp_path / "run", classifier__epochs=0)  # the folder is free for a call without the mistake


def test_a_run_without_f_cam_gives_its_classifier(first, tmp_path):
    folder, _ = first
    (tmp_path / "run").mkdir()
    for name in ("config.json", "classifier"):
        (tmp_path / "run" / name).symlink_to(folder / name)
    command.main(["export", f"--workdir={tmp_path / 'run'}", f"--out={tmp_path / 'out'}"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["classifier.safetensors"]


@pytest.mark.parametrize(("form", "stage"), [("stablehlo", ""), ("onnx", ""), ("onnx", "classifier")])
def test_a_run_as_a_program_has_its_threshold_and_class_names(first, form, stage, tmp_path, capsys):
    if form == "onnx":
        pytest.importorskip("onnx", reason="the extra onnx is not installed")
    folder, _ = first
    command.main(["export", f"--workdir={folder / stage}", f"--out={tmp_path}", f"--format={form}", "--with=box"])
    files = [tmp_path / f"network.{form}", tmp_path / "network.json"]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    assert all(file.stat().st_size for file in files)
    network = trained_network(folder / stage)
    told = json.loads(files[1].read_text())
    assert (told["threshold"], told["size"], told["with"]) == (network.threshold.value, 32, ["box"])
    assert told["class_names"] == list(network.class_names)


def test_what_cannot_be_exported_costs_one_line(first, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: --workdir=.* holds no run: there is no .*config\.json$"):
        command.main(["export", f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}"])
    (tmp_path / "config.json").write_text((first[0] / "config.json").read_text())
    with pytest.raises(SystemExit, match=r"^error: .*checkpoint"):
        command.main(["export", f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}"])
    config = json.loads((tmp_path / "config.json").read_text())
    del config["model"]["final_stride"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit, match=r"^error: the run's config\.json .* of another version .*final_stride"):
        command.main(["export", f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}"])
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"^error: .*file cannot be read or written: File exists"):
        command.main(["export", f"--workdir={first[0]}", f"--out={tmp_path / 'file'}"])
