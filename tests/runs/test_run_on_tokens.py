"""F-CAM on a transformer by the ordinary commands: trained on kept features, evaluated, shown, exported, resumed."""

import json

import numpy as np
import pytest
from program import SMALL, in_this_process, words_of
from safetensors.numpy import load_file

import fcam_jax as fc
from fcam_jax import main as program
from fcam_jax.cli import command
from fcam_jax.data.synthetic import render
from fcam_jax.models import ENCODERS
from fcam_jax.models.import_weights import export_weights
from fcam_jax.models.pretrained import Sized
from fcam_jax.models.vit import Design, ViT
from fcam_jax.runs.trained import load_trained

pytestmark = pytest.mark.slow

CROPS, WIDTH = 2, 24
SETTINGS = SMALL | {
    "model.encoder": "shallow",
    "model.shallow.drop_path": 0.2,
    "model.decoder_widths": "(8,8,4,4,4)",
    "classifier.optimizer.name": "adamw_cosine",
    "classifier.optimizer.learning_rate": 0.001,
    "fcam.optimizer.name": "adamw_cosine",
    "fcam.features": CROPS,
    "fcam.loss.crf.weight": 0.0,
    "fcam.color.share": 0.0,
    "evaluation.pictures": 0,
    "evaluation.examples": 0,
    "evaluation.bootstrap": 0,
}


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """A transformer of four blocks, by a name: those that are published have twelve."""
    design = Design(width=WIDTH, heads=2, grid=2, resampling="size", depth=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "shallow", Sized(ViT, design))
        yield


def call(folder, **settings):
    """Train and evaluate a run."""
    with in_this_process():
        assert program.main(words_of("synthetic", folder, **settings)) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("tokens") / "run"
    call(folder, **SETTINGS)
    return folder


def test_both_stages_are_trained_and_evaluated(run):
    found = json.loads((run / "results.json").read_text())
    assert found["encoder"] == "shallow" and {"CAM", "F-CAM"} <= found["methods"].keys()
    assert all(np.isfinite(value) for value in found["methods"]["F-CAM"].values())
    (record,) = (run / "cams").glob("*.json")
    kept = json.loads(record.read_text())
    assert kept["count"] == CROPS * SMALL["data.synthetic.train"]
    size = SMALL["data.size"] // 16
    assert kept["row"].count(f"({size}, {size}, {WIDTH})") == 4  # of every block


@pytest.mark.long
def test_a_finished_run_on_tokens_is_not_trained_again(run):
    before = (run / "fcam" / "metrics.jsonl").read_text()
    call(run, **SETTINGS)
    assert (run / "fcam" / "metrics.jsonl").read_text() == before


def test_its_maps_have_the_size_of_the_images(run):
    images = [render(np.random.default_rng((0, n)), n, 48).image for n in range(2)]
    found = fc.load(run)(images)
    assert [one.shape for one in found.maps] == [(48, 48)] * 2
    assert all(one.min() >= 0 and one.max() <= 1 and np.ptp(one) > 0 for one in found.maps)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "weights"
    assert command.main(["export", f"--workdir={run}", f"--out={folder}"]) == 0
    return folder


def test_its_export_has_every_weight_of_the_decoder_and_its_neck(run, exported):
    model = load_trained(run).model
    found, expected = load_file(exported / "decoder.safetensors"), export_weights(model.decoder)
    assert found.keys() == expected.keys() and any("neck" in name for name in found)
    assert all(np.array_equal(found[name], expected[name]) for name in found)


@pytest.mark.long
def test_its_decoder_is_exported_with_its_neck(run, exported, tmp_path):
    call(
        tmp_path / "again",
        **SETTINGS
        | {
            "model.init": exported,
            "model.init_head": "keep",
            "classifier.epochs": 0,
            "fcam.init": exported,
            "fcam.epochs": 0,
            "fcam.features": 0,
        },
    )
    first, same = (json.loads((folder / "results.json").read_text())["methods"] for folder in (run, tmp_path / "again"))
    for name, value in first["F-CAM"].items():
        assert same["F-CAM"][name] == pytest.approx(value, abs=1e-6), name
