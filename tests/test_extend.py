"""The recipes of docs/extend.md, each run as a file of a user's own through the ordinary command, on tiny data."""

import json
import pathlib
import re

import pytest

from fcam_jax.cams import CAMS
from fcam_jax.cli import command
from fcam_jax.configuration.components import CHOICES, import_components
from fcam_jax.errors import InputError
from fcam_jax.evaluation import METRICS
from fcam_jax.losses import LOSSES

pytestmark = pytest.mark.slow

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "extend.md"
RECIPES = dict(re.findall(r"^## ([^\n]*)\n.*?```python\n(.*?)```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL))
SMALL = {
    "data.size": 32,
    "data.resize": 36,
    "data.batch_size": 8,
    "data.synthetic.train": 8,
    "data.synthetic.val": 8,
    "data.synthetic.test": 8,
    "classifier.epochs": 1,
    "fcam.epochs": 1,
    "fcam.loss.crf.weight": 0.0,
    "fcam.pictures_epochs": 0,
    "evaluation.batch_size": 8,
    "evaluation.pictures": 0,
    "evaluation.examples": 0,
    "evaluation.bootstrap": 0,
    "evaluation.threshold_step": 0.1,
    "validation.threshold_step": 0.1,
}
REGISTRIES = (*CHOICES.values(), LOSSES, METRICS)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Trains by a recipe with other values; yields the run's folder. What it registers goes again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fcam_jax.cli.together.begin", lambda: None)  # the handlers of signals are pytest's
    before = [(registry, dict(registry)) for registry in REGISTRIES]

    def train(name, **values):
        pathlib.Path("mine.py").write_text(RECIPES[name])
        values = SMALL | {key.replace("__", "."): value for key, value in values.items()}
        overrides = [f"--config.{key}={value}" for key, value in values.items()]
        assert command.main(["train", "--config=mine.py", "--workdir=run", *overrides]) == 0
        return tmp_path / "run"

    yield train
    for registry, members in before:
        registry.clear()
        registry.update(members)
        registry.files.clear()


def read(path):
    return json.loads(path.read_text())


def test_the_page_has_five_recipes():
    assert list(RECIPES) == ["Encoder", "CAM", "Way to train the classifier", "Term of the loss", "Metric"]


def test_an_encoder(recipe):
    run = recipe("Encoder", fcam__epochs=0)
    assert read(run / "config.json")["model"]["strided"] == {"width": 4}
    assert {"CAM", "F-CAM"} <= read(run / "results.json")["methods"].keys()


def test_a_cam_whose_run_is_loaded_again(recipe, tmp_path):
    run = recipe("CAM", last_stage="classifier")
    record = read(run / "config.json")
    assert record["components"] == [str(tmp_path / "mine.py")] and record["cam"]["power"] == {"power": 0.5}
    del CAMS["power"]
    CAMS.files.clear()
    assert command.main(["eval", "--checkpoint=run", "--workdir=again"]) == 0
    assert read(tmp_path / "again" / "results.json")["methods"] == read(run / "results.json")["methods"]
    CAMS.files.clear()
    pathlib.Path("mine.py").rename("moved.py")
    with pytest.raises(InputError, match=r"mine\.py registers components of this run and is not there"):
        import_components(record)


def test_a_way_to_train(recipe):
    run = recipe("Way to train the classifier", fcam__epochs=0)
    assert {"Positions", "F-CAM"} <= read(run / "results.json")["methods"].keys()
    (line, *_) = [line for line in (run / "classifier" / "metrics.jsonl").read_text().splitlines() if "train" in line]
    assert json.loads(line)["positions"] > 0


@pytest.mark.long
@pytest.mark.parametrize("name", ["Encoder", "Way to train the classifier"])
def test_f_cam_is_trained_on_it(recipe, name):
    run = recipe(name, classifier__epochs=0)
    assert "F-CAM" in read(run / "results.json")["methods"]
    (line, *_) = [line for line in (run / "fcam" / "metrics.jsonl").read_text().splitlines() if "train" in line]
    assert json.loads(line)["step"] == 1


def test_a_term_of_the_loss(recipe):
    run = recipe("Term of the loss", classifier__epochs=0, fcam__loss__smooth__power=2.0)
    assert read(run / "config.json")["fcam"]["loss"]["smooth"]["power"] == 2.0
    (line, *_) = [line for line in (run / "fcam" / "metrics.jsonl").read_text().splitlines() if "train" in line]
    assert "smooth" in json.loads(line)


def test_a_metric(recipe):
    run = recipe("Metric", last_stage="classifier", classifier__epochs=0)
    assert 0 <= read(run / "results.json")["methods"]["CAM"]["Inside"] <= 100
