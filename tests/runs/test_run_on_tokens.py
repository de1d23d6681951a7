"""F-CAM on a transformer by the ordinary commands: trained on kept features, evaluated, shown, exported, resumed."""

import json

import numpy as np
import pytest
from program import SMALL, in_this_process, words_of

import fcam_jax as fc
from fcam_jax import main as program
from fcam_jax.cli import command
from fcam_jax.data.synthetic import render
from fcam_jax.models import ENCODERS
from fcam_jax.models.pretrained import Sized
from fcam_jax.models.vit import Design, ViT

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


def test_a_finished_run_on_tokens_is_not_trained_again(run):
    before = (run / "fcam" / "metrics.jsonl").read_text()
    call(run, **SETTINGS)
    assert (run / "fcam" / "metrics.jsonl").read_text() == before


def test_its_maps_have_the_size_of_the_images(run):
    images = [render(np.random.default_rng((0, n)), n, 48).image for n in range(2)]
    found = fc.load(run)(images)
    assert [one.shape for one in found.maps] == [(48, 48)] * 2
    assert all(one.min() >= 0 and one.max() <= 1 and np.ptp(one) > 0 for one in found.maps)


def test_its_decoder_is_exported_with_its_neck(run, tmp_path):
    assert command.main(["export", f"--workdir={run}", f"--out={tmp_path / 'weights'}"]) == 0
    call(
        tmp_path / "again",
        **SETTINGS
        | {
            "model.init": tmp_path / "weights",
            "model.init_head": "keep",
            "classifier.epochs": 0,
            "fcam.init": tmp_path / "weights",
            "fcam.epochs": 0,
            "fcam.features": 0,
        },
    )
    first, same = (json.loads((folder / "results.json").read_text())["methods"] for folder in (run, tmp_path / "again"))
    for name, value in first["F-CAM"].items():
        assert same["F-CAM"][name] == pytest.approx(value, abs=1e-6), name
